"""Pictures and masks paired by name: what every data set of files is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import LabelSet
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
    """What lies in the folders of a split: pairs in order of name, and files without a partner."""

    where: Path
    pairs: tuple[Pair, ...]
    lone_pictures: tuple[Path, ...] = ()
    lone_masks: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raises DataError for a picture without mask or the reverse, or where there is no pair."""
        for unpaired, present, missing in (
            (self.lone_pictures, "picture", "mask"),
            (self.lone_masks, "mask", "picture"),
        ):
            if unpaired:
                raise DataError(
                    f"{self.where}: {len(unpaired)} {present}(s) without {missing}, the first is {unpaired[0]};"
                    f" add the {missing} or remove the {present}"
                )
        if not self.pairs:
            raise DataError(f"{self.where} holds no pictures; check --data-root and the split")


class PairedFiles:
    """One split of a data set of files; `read_mask` maps what masks hold to train ids."""

    def __init__(
        self, name: str, split: str, labels: LabelSet, listing: Listing, read_mask: Callable[[Path], Mask]
    ) -> None:
        self.name, self.split, self.labels, self.listing = name, split, labels, listing
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


def pair_up(where: Path, images: dict[str, Path], masks: dict[str, Path], need_masks: bool = True) -> Listing:
    """Pictures and masks of the same name; without `need_masks` a picture may go without."""
    names = sorted(images if not need_masks else images.keys() & masks.keys())
    return Listing(
        where,
        tuple(Pair(name, images[name], masks.get(name)) for name in names),
        tuple(images[name] for name in sorted(images.keys() - masks.keys()) if need_masks),
        tuple(masks[name] for name in sorted(masks.keys() - images.keys())),
    )


def by_stem(folder: Path, ending: str = "") -> dict[str, Path]:
    """Pictures of a folder whose stem ends so, by the stem without it.

    Raises DataError if the folder is missing or a stem stands twice.
    """
    _need(folder)
    return _unique(
        (path.stem.removesuffix(ending), path) for path in sorted(folder.iterdir()) if _is_picture(path, ending)
    )


def by_relative_stem(folder: Path) -> dict[str, Path]:
    """Pictures of a folder and its subfolders, by their path within it without suffix. Raises as `by_stem`."""
    _need(folder)
    return _unique(
        (path.relative_to(folder).with_suffix("").as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if _is_picture(path)
    )


def check_split(data: str, split: str, splits: Iterable[str]) -> None:
    """Raises DataError for a split that the data set does not have."""
    splits = tuple(splits)
    if split not in splits:
        raise DataError(f"data set {data!r} has no split {split!r}; {did_you_mean(split, splits)}")


def _is_picture(path: Path, ending: str = "") -> bool:
    return path.suffix.lower() in SUFFIXES and path.stem.endswith(ending) and not path.name.startswith(".")


def _need(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check --data-root and the split")


def _unique(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for stem, path in files:
        if stem in by_name:
            raise DataError(f"{path} and {by_name[stem]} share a stem; keep one of them")
        by_name[stem] = path
    return by_name
