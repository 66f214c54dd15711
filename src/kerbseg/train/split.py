"""The pictures of a run: one or several splits of a data set, at one size, in memory where they fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.loading import Gathered, InMemory, OnDisk, Resized
from kerbseg.train.recipe import Data

Cache = Literal["auto", "ram", "none"]


class Split:
    """A data set made ready for batches, and the size of its pictures."""

    def __init__(self, dataset: Dataset, cache: Cache) -> None:
        self.labels: LabelSet = dataset.labels
        first = dataset[0]
        self.size: tuple[int, int] = (first.mask.shape[0], first.mask.shape[1])
        needed = len(dataset) * (first.image.nbytes + first.mask.nbytes)
        in_memory = cache == "ram" or (cache == "auto" and needed < 0.25 * _free_memory_bytes())
        self.batches: InMemory | OnDisk = InMemory(dataset) if in_memory else OnDisk(dataset)

    def counts(self) -> tuple[np.ndarray, int]:
        """Pixels of each class, and of VOID."""
        counts = np.zeros(256, np.int64)
        for start in range(0, len(self.batches), 16):
            indices = list(range(start, min(start + 16, len(self.batches))))
            counts += np.bincount(self.batches.__getitems__(indices)["mask"].numpy().ravel(), minlength=256)
        return counts[: len(self.labels)], int(counts[255])


def open_split(data: Data, splits: Sequence[str], root: str | Path | None, cache: Cache) -> Split:
    """The splits of a recipe's data section. Raises DataError for data that cannot be used."""
    parts: list[Dataset] = [open_dataset(data.name, split, root) for split in splits]
    if data.size is not None:
        parts = [Resized(part, data.size) for part in parts]
    return Split(Gathered(parts, data.limit), cache)


def _free_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
