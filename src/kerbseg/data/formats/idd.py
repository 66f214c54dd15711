"""IDD (India Driving Dataset): `leftImg8bit` and the polygons of `gtFine/{split}/*/*_gtFine_polygons.json`.

Polygons lie on top of each other in the order of the file, as the authors' script paints them; a group of objects, such
as `cargroup`, is of their class. What the authors do not train on is void, as is what no polygon covers.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.formats.regions import Mark, Polygons, polygon
from kerbseg.data.formats.source import (
    Document,
    Drawn,
    Entry,
    Folder,
    Source,
    SourceClass,
    checked_size,
    read_document,
    split_of,
)

ENDING = "_gtFine_polygons"
VOIDS = frozenset({"unlabeled", "ego vehicle", "rectification border", "out of roi", "license plate"})


class _Object(Document):
    label: str
    polygon: list[tuple[float, float]]
    deleted: bool = False


class _File(Document):
    imgHeight: int
    imgWidth: int
    objects: list[_Object]


def looks_like(root: Path) -> bool:
    """Whether polygons lie where IDD keeps them."""
    return next((root / "gtFine").glob(f"*/*/*{ENDING}.json"), None) is not None


def read(root: Path) -> Source:
    """All polygons. Raises DataError naming file and object."""
    folder = Folder(root)
    left_out: Counter[str] = Counter()
    entries = [_entry(path, folder, left_out) for path in folder.files(f"{ENDING}.json")]
    if not entries:
        raise DataError(f"{root} holds no gtFine/*/*/*{ENDING}.json; check the path")
    labels = {mark.label for entry in entries for mark in entry.marks.marks}  # type: ignore[attr-defined] # Drawn
    classes = tuple(SourceClass(label, void=label in VOIDS) for label in sorted(labels))
    return Source(classes, tuple(entries), left_out)


def _entry(path: Path, folder: Folder, left_out: Counter[str]) -> Entry:
    document = read_document(path, _File)
    marks = []
    for index, each in enumerate(document.objects):
        if each.deleted:
            continue
        if len(each.polygon) < 3:  # the release has some
            left_out["polygons of fewer than three points"] += 1
            continue
        label = each.label if each.label == "polegroup" else each.label.removesuffix("group")
        marks.append(Mark(label, Polygons((polygon(each.polygon, f"{path}: objects[{index}] ({label})"),))))
    inside = path.relative_to(folder.root)
    stem = path.name.removesuffix(f"{ENDING}.json")
    place = folder.root / "leftImg8bit" / Path(*inside.parts[1:-1])
    for suffix in (".png", ".jpg"):
        if (picture := place / f"{stem}_leftImg8bit{suffix}").is_file():
            break
    else:
        raise DataError(f"{path}: its picture {place / stem}_leftImg8bit.png does not exist; unpack leftImg8bit")
    size = checked_size(document.imgHeight, document.imgWidth, str(path))
    name = Path(*inside.parts[2:-1], stem).as_posix()
    return Entry(name, picture, Drawn(tuple(marks), "as listed", None), str(path), size, split_of(*inside.parts[1:2]))
