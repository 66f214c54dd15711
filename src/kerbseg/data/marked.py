"""Pictures with the marks of another tool as a data set: read where they lie, or by `convert`.

The source's own splits stay. Where there are none, one is drawn; a `map.yaml` in the folder maps classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from kerbseg.core.errors import DataError
from kerbseg.core.types import Sample
from kerbseg.data.class_map import Mapped, map_classes
from kerbseg.data.drives import draw_split
from kerbseg.data.formats import read_source
from kerbseg.data.formats.source import Drawn, Entry, Source, SourceClass
from kerbseg.data.pairs import check_split
from kerbseg.data.pictures import exif_orientation, read_rgb

SHARE = 0.8  # of the pictures that are for training, where nobody says another
USUAL = ("train", "val", "test")


class MarkedPictures:
    """One split of a source; masks are painted when they are asked for."""

    def __init__(
        self, name: str, split: str, entries: Sequence[Entry], mapped: Mapped, notes: Sequence[str] = ()
    ) -> None:
        self.name, self.split, self.labels = name, split, mapped.labels
        self.notes = tuple(notes)  # what was left out of the whole source
        self.entries, self._mapped = entries, mapped

    @property
    def names(self) -> list[str]:
        """Of the pictures, in order."""
        return [entry.name for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError for a picture or mask that cannot be read, or that do not fit each other."""
        return sample_of(self.entries[index], self._mapped)


def open_split(root: Path, split: str, format: str) -> MarkedPictures:
    """One split of a folder in a format. Raises DataError naming the file and entry that is broken."""
    source = read_source(format, root)
    path = map_beside(root)
    mapped = map_classes(source.classes if path else _marked_classes(source), root.resolve().name or format, path)
    entries = divide(source.entries)
    check_split(format, split, _present(entries))
    chosen = sorted((entry for entry in entries if entry.split == split), key=lambda entry: entry.name)
    return MarkedPictures(format, split, chosen, mapped, left_out_lines(source.left_out))


def splits(root: Path, format: str) -> tuple[str, ...]:
    """The splits that a folder in a format has, or that are drawn. Raises DataError as `open_split`."""
    return _present(divide(read_source(format, root).entries))


def map_beside(root: Path) -> Path | None:
    """The class map in a source's folder, where there is one."""
    path = root / "map.yaml"
    return path if path.exists() else None


def sample_of(entry: Entry, mapped: Mapped) -> Sample:
    """A picture and its mask. Raises DataError for those that cannot be read, or that do not fit each other."""
    image = read_rgb(entry.picture)
    height, width = image.shape[:2]
    if entry.size is not None and entry.size != (height, width):
        raise DataError(
            f"{entry.where}: made for {entry.size[0]}x{entry.size[1]}, but {entry.picture} is {height}x{width} (HxW);"
            f" {_remedy(entry, (width, height))}"
        )
    return Sample(image, entry.marks.mask((height, width), mapped.train_ids), entry.name)


def _remedy(entry: Entry, turned: tuple[int, int]) -> str:
    if entry.size == turned and exif_orientation(entry.picture) != 1:
        return (
            "its EXIF turns it, and the tool did not: save it turned and mark it again, or, where a network is to see"
            " pictures unturned, remove the orientation from its EXIF"
        )
    return "put the marked picture there"


def left_out_lines(left_out: Mapping[str, int]) -> list[str]:
    """What a reader left out, a line each."""
    return [f"left out: {count} {what}" for what, count in left_out.items() if count]


def divide(entries: Sequence[Entry], share: float | None = None, seed: int = 0) -> list[Entry]:
    """The entries with a split each, and with names that do not repeat the folders which all of a split share.

    Splits are the source's, unless a share of pictures for training is given; what the source keeps for testing stays.
    Raises DataError where a picture is marked in two places or is in two splits that stay, and where two pictures of a
    split have one name.
    """
    return _named(_with_splits(_once(entries, kept=share is None), share, seed))


def has_splits(entries: Iterable[Entry]) -> bool:
    """Whether a source says what is for training and what for validation."""
    splits = {entry.split for entry in entries}
    return {"train", "val"} <= splits and None not in splits


def _marked_classes(source: Source) -> tuple[SourceClass, ...]:
    """The classes that a mark has: tools list all that they were set up with. All where masks are files."""
    marks = [entry.marks for entry in source.entries if isinstance(entry.marks, Drawn)]
    if len(marks) < len(source.entries):
        return source.classes
    labels = {mark.label for drawn in marks for mark in drawn.marks} | {drawn.rest for drawn in marks}
    return tuple(each for each in source.classes if each.name in labels)


def _present(entries: Sequence[Entry]) -> tuple[str, ...]:
    there = {entry.split for entry in entries}
    return tuple(split for split in USUAL if split in there)


def _once(entries: Sequence[Entry], kept: bool) -> list[Entry]:
    """Each picture once. Raises DataError where it is marked in two places, or is in two splits that stay."""
    first: dict[Path, Entry] = {}
    for entry in entries:
        other = first.setdefault(entry.picture, entry)
        if other.where != entry.where:
            raise DataError(
                f"{entry.where}: its picture {entry.picture} is marked in {other.where} too; keep one of them"
            )
        if kept and other.split != entry.split:
            raise DataError(
                f"picture {entry.picture} is in both {other.split} and {entry.split}; draw a split: --split {SHARE:g}"
            )
    return list(first.values())


def _with_splits(entries: Sequence[Entry], share: float | None, seed: int) -> list[Entry]:
    """The entries with a split each: the source's, or one that is drawn; what the source keeps for testing stays."""
    if share is None and has_splits(entries):
        return list(entries)
    has_others = any(entry.split != "test" for entry in entries)
    tested = [entry for entry in entries if entry.split == "test" and has_others]
    others = _named([replace(entry, split=None) for entry in entries if entry.split != "test" or not has_others])
    training = draw_split([entry.name for entry in others], SHARE if share is None else share, seed)
    drawn = [replace(entry, split="train" if train else "val") for entry, train in zip(others, training, strict=True)]
    return [*drawn, *tested]


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with names that do not repeat the folders which all of a split share.

    Raises DataError where two pictures of a split have one name.
    """
    folders: dict[str | None, tuple[str, ...]] = {}
    for entry in entries:
        parts = PurePosixPath(entry.name).parts[:-1]
        folders[entry.split] = _common(folders.get(entry.split, parts), parts)
    named: dict[tuple[str | None, str], Entry] = {}
    for entry in entries:
        name = "/".join(PurePosixPath(entry.name).parts[len(folders[entry.split]) :])
        other = named.setdefault((entry.split, name), replace(entry, name=name))
        if other.picture != entry.picture:
            raise DataError(f"{entry.picture} and {other.picture} would have one name, {name}; rename one of them")
    return list(named.values())


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
