"""What a reader makes of a tool's files: pictures with their marks, and the classes as the tool names them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color
from kerbseg.core.types import VOID
from kerbseg.data.formats.regions import Mark, Order, paint
from kerbseg.data.pairs import files_below
from kerbseg.data.pictures import MAX_PIXELS, SUFFIXES

BACKGROUND = "background"
"""The class of pixels without a mark, in formats that only know marks."""

SPLIT_NAMES = {  # what tools call the splits -> what we do
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UNMARKED = "pictures without labels"
GLANCE = 100  # files that are read to see what a folder holds


class Marks(Protocol):
    """How a picture is marked."""

    def mask(self, size: tuple[int, int], train_ids: Mapping[str, int]) -> UInt8[np.ndarray, "h w"]:
        """Train ids of a picture of this size. Raises DataError for marks that cannot be read, or of another size."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Regions over a rest that is a class of its own, or VOID where `rest` names none."""

    marks: tuple[Mark, ...]
    order: Order = "smallest on top"
    rest: str | None = BACKGROUND

    def mask(self, size: tuple[int, int], train_ids: Mapping[str, int]) -> UInt8[np.ndarray, "h w"]:
        """As `Marks.mask`."""
        return paint(self.marks, self.order, size, train_ids, VOID if self.rest is None else train_ids[self.rest])


@dataclass(frozen=True)
class Entry:
    """A picture and its marks."""

    name: str  # its path among the pictures, without suffix; what it begins with shows the drive
    picture: Path
    marks: Marks
    where: str  # file and place of the marks, for errors
    size: tuple[int, int] | None = None  # (height, width) that the tool saw
    split: str | None = None


@dataclass(frozen=True)
class SourceClass:
    """A class as the tool names it."""

    name: str
    color: Color | None = None
    void: bool = False  # whether the format says that it is no class


@dataclass(frozen=True)
class Source:
    """All that a reader makes of a folder."""

    classes: tuple[SourceClass, ...]
    entries: tuple[Entry, ...]
    left_out: Mapping[str, int] = field(default_factory=Counter)  # what a mask has no place for -> how many
    notes: tuple[str, ...] = ()


def with_background(names: Iterable[str]) -> tuple[SourceClass, ...]:
    """The classes of a format that only knows marks."""
    return tuple(SourceClass(name) for name in dict.fromkeys([BACKGROUND, *names]))


class Document(BaseModel):
    """The keys of a tool's JSON that we use; tools write many more."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


AnyDocument = TypeVar("AnyDocument", bound=BaseModel)


def read_document(path: Path, kind: type[AnyDocument]) -> AnyDocument:
    """What a JSON file holds. Raises DataError that names file, entry and what stands there."""
    data = read_bytes(path).removeprefix(BYTE_ORDER_MARK)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        raise DataError(f"{path} is no whole JSON ({first['msg']}); export it again")
    keys = [part for part in first["loc"] if isinstance(part, int) or not part.startswith(("list[", "function-"))]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).lstrip(".")
    stands = "" if first["type"] == "missing" else f", found {shortened(first['input'])}"
    raise DataError(f"{path}: {place or 'the file'}: {first['msg'].lower()}{stands}; export it again")


def shortened(value: object, longest: int = 60) -> str:
    """A value as it is shown within a line."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def read_text(path: Path) -> str:
    """The text of a file. Raises DataError where it cannot be read or is no UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises DataError where it cannot be read."""
    if not path.is_file():
        raise DataError(f"{path} does not exist, or is no file; check the path")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; check it") from error


def checked_size(height: int, width: int, where: str) -> tuple[int, int]:
    """A picture's size as a tool wrote it. Raises DataError for one that no picture has."""
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DataError(f"{where}: a picture of {width}x{height}; correct the size or export it again")
    return height, width


class Folder:
    """A source's folder, and the pictures in it by the names that its files use. Nothing outside is ever opened."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"folder {root} does not exist, or is no folder; check the path")
        self.root = Path(os.path.normpath(root))

    @cached_property
    def _files(self) -> list[Path]:
        return [path for path in files_below(self.root) if not path.name.startswith(".")]

    def glance(self, suffix: str) -> list[Path]:
        """The first files of a suffix, to see what the folder holds."""
        return self.files(suffix)[:GLANCE]

    def files(self, suffix: str) -> list[Path]:
        """All files of a suffix, in order."""
        return [path for path in self._files if path.name.endswith(suffix)]

    def json_files(self, is_ours: Callable[[bytes], bool]) -> list[Path]:
        """The JSON files that `is_ours` takes by their bytes, in order.

        Raises DataError for one that it does not take and that is no whole JSON: what is missing may have shown it.
        """
        ours = []
        for path in self.files(".json"):
            if is_ours(data := read_bytes(path)):
                ours.append(path)
                continue
            try:
                from_json(data.removeprefix(BYTE_ORDER_MARK))
            except ValueError as error:
                raise DataError(f"{path} is no whole JSON ({error}); export it again, or remove it") from error
        return ours

    def unmarked(self, entries: Iterable[Entry]) -> int:
        """How many pictures of the folder no entry names."""
        named = {entry.picture for entry in entries}
        return sum(path not in named for paths in self._by_file_name.values() for path in paths)

    def picture(self, written: str, where: str, beside: Path | None = None) -> Path:
        """The picture that a tool's file names, `beside` being the folder of that file.

        A path is taken from that folder, then from the root. What is written of another machine, such as
        `/data/upload/1/a.jpg` or one with a drive's letter, is the one picture in the folder that ends like it. Raises
        DataError, which says `where`, for a picture that is not there or could be several, and for a path that leaves
        the folder.
        """
        parts = PurePosixPath(written.replace("\\", "/")).parts
        foreign = bool(parts) and (parts[0] in ("/", "//") or ":" in parts[0])
        if parts and not foreign:
            leaves = True
            for folder in (beside, self.root):
                path = None if folder is None else Path(os.path.normpath(folder / Path(*parts)))
                if path is not None and path.is_relative_to(self.root):
                    leaves = False
                    if os.path.isfile(path):  # no exception where a name is too long
                        return path
            if leaves:
                raise DataError(f"{where}: picture {written!r} lies outside {self.root}; name the folder above both")
        return self._alike(parts, written, where)

    def has_file(self, written: str) -> bool:
        """Whether a picture of that file name lies in the folder."""
        return PurePosixPath(written).name in self._by_file_name

    def name_of(self, picture: Path) -> str:
        """The path of a picture within the folder, without suffix."""
        return picture.relative_to(self.root).with_suffix("").as_posix()

    def _alike(self, parts: tuple[str, ...], written: str, where: str) -> Path:
        candidates = self._by_file_name.get(parts[-1], []) if parts else []
        if len(candidates) > 1:  # those that share most of the path's end
            shared = [_shared_end(path.parts, parts) for path in candidates]
            candidates = [path for path, n in zip(candidates, shared, strict=True) if n == max(shared)]
        if len(candidates) > 1:
            raise DataError(
                f"{where}: picture {written!r} may be {candidates[0]} or {candidates[1]}; keep one of them, or name the"
                " folder that holds one"
            )
        if not candidates:
            raise DataError(f"{where}: picture {written!r} is not in {self.root}; put it there, or delete the entry")
        return candidates[0]

    @cached_property
    def _by_file_name(self) -> dict[str, list[Path]]:
        pictures: dict[str, list[Path]] = {}
        for path in self._files:
            if path.suffix.lower() in SUFFIXES:
                pictures.setdefault(path.name, []).append(path)
        return pictures


def _shared_end(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count


def split_of(*texts: str) -> str | None:
    """The split that a text such as `instances_train2017` or a folder such as `valid` names, the first that does."""
    for text in texts:
        for word in text.lower().replace("-", "_").split("_"):
            if (split := SPLIT_NAMES.get(word.rstrip("0123456789"))) is not None:
                return split
    return None
