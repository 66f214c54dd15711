"""Cityscapes (Cordts et al.) as it is downloaded: labelIds become the 19 train ids while they are read.

`leftImg8bit/{split}/{city}/*_leftImg8bit.png` with `gtFine/.../*_gtFine_labelIds.png` or
`gtCoarse/.../*_gtCoarse_labelIds.png`. `labelTrainIds` and other files beside them are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.data.masks import id_mask
from kerbseg.data.pairs import PairedFiles, by_stem, check_split, pair_up


@dataclass(frozen=True)
class _Split:
    pictures: str  # folder under leftImg8bit
    labels: str = "gtFine"
    public: bool = True  # whether the benchmark gives the labels away


SPLITS = {
    "train": _Split("train"),  # 2975 pictures
    "val": _Split("val"),  # 500
    "test": _Split("test", public=False),  # 1525
    "train_extra": _Split("train_extra", "gtCoarse"),  # 19998
    "train_coarse": _Split("train", "gtCoarse"),  # the pictures of train
    "val_coarse": _Split("val", "gtCoarse"),  # the pictures of val
}


def open_split(root: Path, split: str) -> PairedFiles:
    """One split. Of `test`, masks are all VOID: the server keeps the labels; dummies in their place may be missing."""
    check_split("cityscapes", split, SPLITS)
    chosen, labels = SPLITS[split], label_set("cityscapes")
    pictures = _by_name(root / "leftImg8bit" / chosen.pictures, "_leftImg8bit")
    folder = root / chosen.labels / chosen.pictures
    ending = f"_{chosen.labels}_labelIds"
    masks = _by_name(folder, ending) if folder.is_dir() or chosen.public else {}
    if pictures and not masks and chosen.public:
        raise DataError(f"{folder} holds no masks */*{ending}.png; unpack {chosen.labels} there (labelIds are read)")
    where = root / "leftImg8bit" / chosen.pictures
    listing = pair_up(where, pictures, masks, need_masks=chosen.public)
    return PairedFiles("cityscapes", split, labels, listing, partial(id_mask, labels=labels))


def splits(root: Path) -> tuple[str, ...]:
    """The splits whose folders lie under `root`. Raises DataError where there is none."""
    if not (root / "leftImg8bit").is_dir():
        raise DataError(f"{root} holds no Cityscapes: there is no leftImg8bit/; check --data-root")

    def is_there(split: _Split) -> bool:
        labelled = (root / split.labels / split.pictures).is_dir()
        return (root / "leftImg8bit" / split.pictures).is_dir() and (labelled or split.labels == "gtFine")

    return tuple(name for name, split in SPLITS.items() if is_there(split))


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Files of all cities by the part of their names before `ending`, such as `ulm_000001_000019`."""
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist; check --data-root and the split")
    pictures: dict[str, Path] = {}
    for city in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures |= by_stem(city, ending)
    return pictures
