"""The list of data sets. A new one is a file here and a line in `DATASETS` and `SPLITS`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.types import Dataset
from kerbseg.data import camvid, cityscapes, coco_text, folder, marked, minicity, scenes
from kerbseg.data.coco_text import CocoText
from kerbseg.data.formats import FORMATS
from kerbseg.data.joined import MARK, JoinedDatasets
from kerbseg.data.marked import MarkedPictures
from kerbseg.data.options import base_name, options_of
from kerbseg.data.pairs import PairedFiles, readable
from kerbseg.data.plain_pictures import PlainPictures

DATASETS: dict[str, Callable[..., Dataset]] = {  # (root, split), and the options that stand in a name
    "camvid": camvid.open_split,
    "cityscapes": cityscapes.open_split,
    "coco_text": coco_text.open_split,
    "folder": folder.open_split,
    "minicity": minicity.open_split,
    "scenes": scenes.open_split,
    **{name: partial(marked.open_split, format=name) for name in FORMATS},
}

SPLITS: dict[str, Callable[..., tuple[str, ...]]] = {  # those that a root holds
    "camvid": camvid.splits,
    "cityscapes": cityscapes.splits,
    "coco_text": coco_text.splits,
    "folder": folder.splits,
    "minicity": minicity.splits,
    "scenes": scenes.splits,
    **{name: partial(marked.splits, format=name) for name in FORMATS},
}

logger = logging.getLogger(__name__)
NEEDS_NO_ROOT = frozenset({"scenes"})


def open_dataset(name: str, split: str, root: str | Path | None = None) -> Dataset:
    """One split of a data set. Without `root` it is looked for at `$KERBSEG_DATA/<name>`.

    Options stand behind the name, such as `coco_text:geometry=box`. Several of the same classes are joined by `+`;
    `root` is then the folder above them, `<root>/<name>` each. Raises DataError for an unknown name, option or split, a
    missing or empty root, folders that cannot be read, or a file without its partner.
    """
    check_name(name)
    if parts := _parts(name, root):
        return JoinedDatasets(split, [open_dataset(part, split, place) for part, place in parts])
    dataset = open_unchecked(name, split, root)
    if isinstance(dataset, PairedFiles):
        dataset.listing.check()
    if isinstance(dataset, CocoText):
        dataset.check()
    logger.debug("data set %s, split %s: %d pictures", name, split, len(dataset))
    return dataset


def open_unchecked(name: str, split: str, root: str | Path | None = None) -> Dataset:
    """As `open_dataset`, but files without a partner are left for the doctor to list."""
    check_name(name)
    if not isinstance(split, str):
        raise DataError(f"a split is named by text, such as 'train'; found {type(split).__name__}")
    if parts := _parts(name, root):
        return JoinedDatasets(split, [open_unchecked(part, split, place) for part, place in parts])
    with readable():
        return DATASETS[base_name(name)](data_root(name, root), split, **options_of(name))


def splits(name: str, root: str | Path | None = None) -> tuple[str, ...]:
    """The splits of a data set that are there; of joined ones, those that all have. Raises as `open_dataset`."""
    check_name(name)
    if parts := _parts(name, root):
        first, *others = (splits(part, place) for part, place in parts)
        return tuple(split for split in first if all(split in other for other in others))
    with readable():
        return SPLITS[base_name(name)](data_root(name, root), **options_of(name))


def check_name(name: str) -> None:
    """Raises DataError for a data set or option that does not exist, with the nearest name."""
    if not isinstance(name, str):
        raise DataError(f"a data set is named by text, one of {', '.join(DATASETS)}; found {type(name).__name__}")
    parts = name.split(MARK)
    for part in parts:
        if base_name(part) not in DATASETS:
            raise DataError(f"unknown data set {part!r}; {did_you_mean(base_name(part), DATASETS)}")
        options_of(part)
    if len(set(parts)) < len(parts):
        raise DataError(f"data set {name!r} joins one with itself; name each once")


def is_known(name: str) -> bool:
    """Whether each part of a data set's name is one that kerbseg reads; its options are not looked at."""
    return all(base_name(part) in DATASETS for part in name.split(MARK))


def picture_file(dataset: Dataset, index: int) -> Path | None:
    """The file of a sample's picture; None where pictures are drawn, or belong to several joined data sets."""
    if isinstance(dataset, PairedFiles):
        return dataset.listing.pairs[index].image
    if isinstance(dataset, MarkedPictures | CocoText):
        return dataset.entries[index].picture
    if isinstance(dataset, PlainPictures):
        return dataset.files[index]
    return None


def _parts(name: str, root: str | Path | None) -> list[tuple[str, Path | None]]:
    """Name and root of each data set that is joined; none where it is one."""
    names = name.split(MARK) if isinstance(name, str) and MARK in name else []
    return [(each, None if root is None else Path(root) / base_name(each)) for each in names]


def data_root(name: str, root: str | Path | None = None) -> Path:
    """The folder of a data set: `root`, or `$KERBSEG_DATA/<name>`. Raises DataError if there is none."""
    name = base_name(name)
    if name in NEEDS_NO_ROOT:
        return Path()
    if root is None:
        if "KERBSEG_DATA" not in os.environ:
            raise DataError(
                f"no root for data set {name!r}; pass --data-root or set KERBSEG_DATA to the folder above it"
            )
        root = Path(os.environ["KERBSEG_DATA"]) / name
    if not isinstance(root, str | Path) or "\0" in str(root):
        raise DataError(f"a data root is the path of a folder, found {root!r:.80}; check it")
    root = Path(root)
    with readable():
        if not root.is_dir():
            raise DataError(f"data root {root} does not exist; check --data-root or KERBSEG_DATA")
        if next(root.iterdir(), None) is None:
            raise DataError(f"data root {root} is empty; unpack data set {name!r} there, or check --data-root")
    return root
