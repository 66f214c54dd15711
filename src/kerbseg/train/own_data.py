"""A look at data of one's own before a training is planned: form, splits, sizes, and whether samples can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path

from kerbseg.core.errors import DataError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Dataset
from kerbseg.data import DATASETS, NEEDS_NO_ROOT, is_known, open_dataset, picture_file, splits
from kerbseg.data.drives import draw_split, drive_of
from kerbseg.data.pictures import picture_size
from kerbseg.train.recipe import AnyRecipe, Recipe

SHARE = 0.8  # of the pictures for training, where the data have no split for validation
MOST_SIZES = 2000  # files whose size is looked at
MOST_DECODED = 2_000_000  # pixels of a split, spread over it, that are read before anything is planned


@dataclass(frozen=True)
class OwnData:
    """What a training is planned from."""

    reader: str  # name of the data set's form
    root: Path | None
    title: str
    labels: LabelSet
    train: int  # pictures
    val: int
    val_split: str
    held_out: tuple[str, ...]  # patterns of names that validate, where a split is drawn from that of training
    sizes: Mapping[tuple[int, int], int]  # height, width -> pictures


def look_at(data: str | Path | None, data_root: str | Path | None = None) -> OwnData:
    """Opens the splits, and reads pictures and masks spread over them.

    `data` is a folder with `dataset.yaml`, or the name of a reader whose folder is `data_root`. Raises DataError for
    the first thing that is wrong.
    """
    reader, root = form_of(data, data_root)
    present = splits(reader, root)
    if "train" not in present:
        raise DataError(f"{_shown(reader, root)} has no split train; it has {', '.join(present) or 'none'}")
    train = open_dataset(reader, "train", root)
    sets = [train]
    held_out: tuple[str, ...] = ()
    val = len(train)
    if "val" in present:
        sets.append(open_dataset(reader, "val", root))
        val = len(sets[1])
        train_count = len(train)
    else:
        if len(train) < 2:
            raise DataError(f"{_shown(reader, root)} has 1 picture; add some, for training and validation")
        names = list(train.names)
        out = [name for name, trains in zip(names, draw_split(names, SHARE), strict=True) if not trains]
        held_out, val, train_count = _patterns(names, out), len(out), len(names) - len(out)
    for each in sets:
        _read_some(each)
    return OwnData(
        reader,
        root,
        title_of(reader, root),
        train.labels,
        train_count,
        val,
        "train" if held_out else "val",
        held_out,
        _sizes(sets),
    )


def title_of(reader: str, root: Path | None) -> str:
    """What data are called: their folder's name."""
    return reader if root is None else root.resolve().name or reader


def check_there(recipe: AnyRecipe, data_root: str | Path | None) -> None:
    """Raises DataError where a recipe's splits cannot be opened; no picture is read."""
    if isinstance(recipe, Recipe) and recipe.data.name not in NEEDS_NO_ROOT:
        for split in dict.fromkeys((*recipe.data.train, recipe.data.val)):
            open_dataset(recipe.data.name, split, data_root)


def form_of(data: str | Path | None, data_root: str | Path | None) -> tuple[str, Path | None]:
    """Name of the reader of data of one's own, and its root. Raises KerbsegError where there is none."""
    if data is None:
        raise KerbsegError(
            "train own needs --data: a folder with dataset.yaml, such as --data my_streets, or the form of a folder,"
            " such as --data coco --data-root my_labels"
        )
    root = None if data_root is None else Path(data_root)
    known = is_known(str(data))
    path = Path(data)
    if root is None and path.is_dir() and not (known and not (path / "dataset.yaml").is_file()):
        if (path / "recipe.yaml").is_file() and not (path / "dataset.yaml").is_file():
            raise DataError(f"{path} is a run folder, not data; continue it with: kerbseg train --resume --out {path}")
        return "folder", path
    if not known:
        what = "no folder, and no form of data" if root is None else "no form of data"
        raise DataError(f"--data {data} is {what}; {did_you_mean(str(data), DATASETS)}")
    return str(data), root


def _shown(reader: str, root: Path | None) -> str:
    return f"data set {reader!r}" if root is None else str(root)


def _read_some(dataset: Dataset) -> None:
    """Decodes samples spread evenly. Raises DataError for one that cannot be used."""
    first = dataset[0]
    count = min(len(dataset), max(4, MOST_DECODED // first.mask.size))
    for index in dict.fromkeys(round(i * (len(dataset) - 1) / max(count - 1, 1)) for i in range(1, count)):
        dataset[index]


def _sizes(sets: Sequence[Dataset]) -> dict[tuple[int, int], int]:
    """How many pictures have which size, the most frequent first."""
    counts: Counter[tuple[int, int]] = Counter()
    for dataset in sets:
        if picture_file(dataset, 0) is None:
            counts[dataset[0].mask.shape[0], dataset[0].mask.shape[1]] += len(dataset)
            continue
        step = -(-len(dataset) // MOST_SIZES)
        files = (picture_file(dataset, index) for index in range(0, len(dataset), step))
        counts.update(picture_size(file) for file in files if file is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _patterns(names: Sequence[str], held_out: Sequence[str]) -> tuple[str, ...]:
    """Patterns that fit these names alone: of whole drives where they are, else each name."""
    drives = dict.fromkeys(map(drive_of, held_out))
    if all(drives):
        patterns = tuple(f"{_literal(drive)}[_/]*" for drive in drives)
        if [name for name in names if any(fnmatchcase(name, each) for each in patterns)] == list(held_out):
            return patterns
    return tuple(map(_literal, held_out))


def _literal(name: str) -> str:
    """A pattern that fits a name as it is; `!` at its beginning would take away."""
    return re.sub(r"^!", "?", escape(name))
