"""ADE20K's scene parsing: `images/{training,validation}` with `annotations/...` of ids 1..150, 0 void.

The names of the classes stand in `objectInfo150.txt`; without it a class is called by its id.
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.formats.mask_files import Values, entries_of, source_of
from kerbseg.data.formats.source import Entry, Folder, Source, read_text

COUNT = 150


def looks_like(root: Path) -> bool:
    """Whether masks lie where ADE20K keeps them."""
    return (root / "annotations" / "training").is_dir() and (root / "images" / "training").is_dir()


def read(root: Path) -> Source:
    """All masks. Raises DataError naming the file."""
    folder = Folder(root)
    values = Values("ade20k", {0: None, **_names(folder.root / "objectInfo150.txt")}, {})
    entries: list[Entry] = []
    for name, split in (("training", "train"), ("validation", "val")):
        masks, pictures = folder.root / "annotations" / name, folder.root / "images" / name
        entries += entries_of(folder, masks, pictures, values, split)
    return source_of(entries, values, f"{folder.root / 'annotations' / 'training'} holds no masks; check the path")


def _names(path: Path) -> dict[int, str]:
    """Names by id: the first column and the first word of the last, of a table with a head."""
    names = {each: str(each) for each in range(1, COUNT + 1)}
    if not path.is_file():
        return names
    for number, line in enumerate(read_text(path).splitlines()[1:], 2):
        columns = line.split("\t")
        if len(columns) < 2 or not columns[0].strip().isdigit() or not 0 < int(columns[0]) <= 255:
            raise DataError(f"{path}:{number}: {line[:40]!r} is not id, figures and name, with tabs; replace the file")
        names[int(columns[0])] = columns[-1].split(",")[0].strip()
    return _told_apart(names)


def _told_apart(names: dict[int, str]) -> dict[int, str]:
    """The names, those that two ids share with the id behind: `screen (131)`."""
    values = list(names.values())
    return {each: name if values.count(name) == 1 else f"{name} ({each})" for each, name in names.items()}
