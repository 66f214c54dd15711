"""Pictures and masks paired by name: what every data set of files is made of."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID, Sample
from kerbseg.data.masks import Mask, check_sizes, refuse_unknown
from kerbseg.data.pictures import SUFFIXES, read_rgb


@dataclass(frozen=True)
class Pair:
    """A picture and its mask; no mask where a benchmark keeps it to itself."""

    name: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Listing:
    """What lies in the folders of a split: pairs in order of name, files without a partner, and other files."""

    where: Path
    pairs: tuple[Pair, ...]
    lone_pictures: tuple[Path, ...] = ()
    lone_masks: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()  # of kinds that are not read

    def check(self) -> None:
        """Raises DataError for a picture without mask or the reverse, or where there is no pair."""
        if problems := self.problems():
            raise DataError(problems[0][0])

    def problems(self) -> list[tuple[str, tuple[Path, ...]]]:
        """What is wrong, a line for each kind of fault, with the files that it is about."""
        told: list[tuple[str, tuple[Path, ...]]] = []
        renaming = _renaming(self.lone_pictures, self.lone_masks)
        for unpaired, present, missing in (
            (self.lone_pictures, "picture", "mask"),
            (self.lone_masks, "mask", "picture"),
        ):
            if unpaired:
                remedy = renaming or f"add the {missing} or remove the {present}"
                told.append(
                    (
                        f"{self.where}: {len(unpaired)} {present}(s) without {missing}, the first is {unpaired[0]};"
                        f" {remedy}",
                        unpaired,
                    )
                )
        if not self.pairs and not self.lone_pictures:
            others = f" that can be read, but {self.skipped_kinds}: save them as PNG or JPEG" if self.skipped else ""
            told.append((f"{self.where} holds no pictures{others or '; check --data-root and the split'}", ()))
        return told

    @property
    def skipped_kinds(self) -> str:
        """How many files are of kinds that are not read, and of which."""
        counts = Counter(path.suffix.lower() or "no suffix" for path in self.skipped)
        kinds = ", ".join(f"{suffix} ({n})" for suffix, n in counts.most_common(5))
        return f"{len(self.skipped)} file(s) of other kinds: {kinds}{' and more' if len(counts) > 5 else ''}"


class PairedFiles:
    """One split of a data set of files; `read_mask` maps what masks hold to train ids."""

    def __init__(
        self,
        name: str,
        split: str,
        labels: LabelSet,
        listing: Listing,
        read_mask: Callable[[Path], Mask],
        given: Mapping[int, Color] | None = None,
    ) -> None:
        self.name, self.split, self.labels, self.listing = name, split, labels, listing
        self.given = given or {}  # the colors that the user gave to ids in files
        self._read_mask = read_mask

    @property
    def names(self) -> list[str]:
        """Of the pictures, in order."""
        return [pair.name for pair in self.listing.pairs]

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError for a file that cannot be read, sizes that differ, or values without a class."""
        pair = self.listing.pairs[index]
        image, mask = self.picture(index), self.mask(index)
        if pair.mask is None or mask is None:
            ids = np.full(image.shape[:2], VOID, np.uint8)
        else:
            check_sizes(image, mask.ids, pair.image, pair.mask)
            refuse_unknown(mask, pair.mask, self.labels)
            ids = mask.ids
        return Sample(image, ids, pair.name)

    def picture(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The picture alone, RGB."""
        return read_rgb(self.listing.pairs[index].image)

    def mask(self, index: int) -> Mask | None:
        """The mask alone, with what is unknown in it; None where there is none."""
        path = self.listing.pairs[index].mask
        return None if path is None else self._read_mask(path)


def pair_up(where: Path, images: Mapping[str, Path], masks: Mapping[str, Path], need_masks: bool = True) -> Listing:
    """Pictures and masks of the same name; without `need_masks` a picture may go without."""
    names = sorted(images if not need_masks else images.keys() & masks.keys())
    return Listing(
        where,
        tuple(Pair(name, images[name], masks.get(name)) for name in names),
        tuple(images[name] for name in sorted(images.keys() - masks.keys()) if need_masks),
        tuple(masks[name] for name in sorted(masks.keys() - images.keys())),
        tuple(path for folder in (images, masks) if isinstance(folder, Folder) for path in folder.skipped),
    )


class Folder(dict[str, Path]):
    """The pictures of a folder by name, and its files of kinds that are not read; hidden files are neither."""

    skipped: tuple[Path, ...] = ()


def by_stem(folder: Path, ending: str = "") -> Folder:
    """Pictures of a folder whose stem ends so, by the stem without it.

    Raises DataError if the folder is missing or a stem stands twice.
    """
    _need(folder)
    return _by_name(sorted(folder.iterdir()), lambda path: path.stem.removesuffix(ending), ending)


def by_relative_stem(folder: Path) -> Folder:
    """Pictures of a folder and its subfolders, by their path within it without suffix. Raises as `by_stem`."""
    _need(folder)
    return _by_name(files_below(folder), lambda path: path.relative_to(folder).with_suffix("").as_posix())


def files_below(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders in order of their paths, links to folders followed.

    Raises DataError where a subfolder cannot be read, or is reached twice: its pictures would stand twice, or for ever.
    """
    files: list[Path] = []
    reached: dict[tuple[int, int], str] = {}
    with readable():
        for inside, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
            here = os.stat(inside)
            first = reached.setdefault((here.st_dev, here.st_ino), inside)
            if first != inside:
                raise DataError(f"folder {inside} is a link to {first}, which is read already; remove the link")
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            files += [Path(inside, name) for name in names]
    return sorted(files)


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture that can be read; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


@contextmanager
def readable() -> Iterator[None]:
    """Turns what the system says of folders and files (no permission, a name too long) into a DataError."""
    try:
        yield
    except OSError as problem:
        raise DataError(f"{problem.filename} cannot be read: {problem.strerror or problem}; check it") from problem


def check_split(data: str, split: str, splits: Iterable[str]) -> None:
    """Raises DataError for a split that the data set does not have."""
    splits = tuple(splits)
    if split not in splits:
        remedy = "put some of the pictures of train there" if split == "val" else did_you_mean(split, splits)
        raise DataError(f"data set {data!r} has no split {split!r}; {remedy}")


def _raise(problem: OSError) -> None:
    raise problem


def _need(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check --data-root and the split")


def _by_name(paths: Iterable[Path], name_of: Callable[[Path], str], ending: str = "") -> Folder:
    by_name, skipped = Folder(), []
    for path in paths:
        if not is_picture(path):
            skipped.append(path)
        elif path.stem.endswith(ending):
            name = normalize("NFC", name_of(path))  # some systems write é as one character, some as two
            if name in by_name:
                raise DataError(f"{path} and {by_name[name]} share a stem; keep one of them")
            by_name[name] = path
    by_name.skipped = tuple(path for path in skipped if not path.name.startswith(".") and not path.is_dir())
    return by_name


def _renaming(pictures: Sequence[Path], masks: Sequence[Path]) -> str | None:
    """How lone masks are paired, where they differ from lone pictures in one ending, or only in their subfolders."""
    if not pictures or not masks:
        return None
    mask = masks[0]
    picture = max(pictures, key=lambda path: _shared(path.stem, mask.stem))
    shared = _shared(picture.stem, mask.stem)
    of_picture, of_mask = picture.stem[shared:], mask.stem[shared:]
    known = {path.stem.removesuffix(of_picture) for path in pictures if path.stem.endswith(of_picture)}
    alike = all(path.stem.endswith(of_mask) and path.stem.removesuffix(of_mask) in known for path in masks)
    if not shared or not alike or re.search(r"\d", of_picture + of_mask):  # 001 and 002 are two numbers, no endings
        return None
    if picture.stem == mask.stem:
        return f"put each mask into the same subfolder as its picture: {mask} belongs to {picture}"
    pictures_end = f" and their pictures in {of_picture!r}" if of_picture else ""
    return (
        f"these masks end in {of_mask!r}{pictures_end}: rename each mask as its picture, such as {mask.name} to"
        f" {picture.stem}{mask.suffix}"
    )


def _shared(one: str, other: str) -> int:
    """Characters with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
