"""The pictures of a run: one or several splits of a data set, at one size, in memory where they fit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kerbseg.core.errors import DataError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID, Dataset
from kerbseg.data import open_dataset
from kerbseg.data.edges import EdgeLines
from kerbseg.data.loading import CenterCropped, ConcatDataset, InMemory, OnDisk, Resized, SelectedByName
from kerbseg.train.recipe import Data

Cache = Literal["auto", "device", "ram", "none"]
CPU = torch.device("cpu")


class CachedSplit:
    """A data set made ready for batches, with the lines of its masks where they are asked for; its pictures' size.

    `auto` keeps it decoded on the device, or else in memory, where it takes less than a quarter of what is free.
    Raises DataError where it is to be kept in a place that cannot hold it.
    """

    def __init__(
        self, dataset: Dataset, cache: Cache, device: torch.device = CPU, edges: EdgeLines | None = None
    ) -> None:
        self.labels: LabelSet = dataset.labels
        first = dataset[0]
        self.size: tuple[int, int] = (first.mask.shape[0], first.mask.shape[1])
        needed = len(dataset) * (first.image.nbytes + first.mask.nbytes * (1 if edges is None else 2))
        place = _place(cache, needed, device)
        if place is not None and needed > (room := _most_bytes(place)):
            raise DataError(
                f"{len(dataset)} pictures take {needed / 1e9:.1f} GB, and {place} has {room / 1e9:.1f} GB;"
                f" use --cache {'ram, or ' if place.type != 'cpu' else ''}none"
            )
        self.batches: InMemory | OnDisk = OnDisk(dataset, edges) if place is None else InMemory(dataset, place, edges)

    def counts(self) -> tuple[np.ndarray, int]:
        """Pixels of each class, and of VOID."""
        counts = np.zeros(256, np.int64)
        for mask in self._masks():
            counts += np.bincount(mask.cpu().numpy().ravel(), minlength=256)
        return counts[: len(self.labels)], int(counts[VOID])

    def labelled(self) -> bool:
        """Whether any pixel has a class; pictures are looked at until one has."""
        return any(bool((mask != VOID).any()) for mask in self._masks())

    def absent_classes(self) -> list[str]:
        """Classes without a pixel, as far as masks are in memory: to read all of them takes too long elsewhere.

        Raises DataError where only one class occurs: a network that says it everywhere would be perfect.
        """
        seen: set[int] = set()
        enough = len(self.labels) if self.batches.in_memory else 2
        for mask in self._masks():
            seen |= set(mask.unique().tolist()) - {VOID}
            if len(seen) >= enough:
                break
        if len(seen) == 1:
            raise DataError(
                f"all labelled pixels of the {len(self.batches)} training pictures are of class"
                f" {self.labels.classes[seen.pop()]!r}, so that there is nothing to tell apart; kerbseg doctor says"
                " what may be wrong with the masks"
            )
        return [name for i, name in enumerate(self.labels.classes) if self.batches.in_memory and i not in seen]

    def _masks(self) -> Iterator[Tensor]:
        """Those of a few pictures at a time."""
        for start in range(0, len(self.batches), 16):
            yield self.batches.__getitems__(list(range(start, min(start + 16, len(self.batches)))))["mask"]


def open_split(
    data: Data,
    splits: Sequence[str],
    root: str | Path | None,
    cache: Cache,
    device: torch.device = CPU,
    names: Sequence[str] = (),
    validates: bool = False,
) -> CachedSplit:
    """The splits of a recipe's data section, of each the pictures whose names fit `names`; all without these.

    Those that validate have a size, and a part that is looked at, of their own where the recipe says so.
    Raises DataError for data that cannot be used, or that have no labels.
    """
    parts: list[Dataset] = [open_dataset(data.name, split, root) for split in splits]
    if names:
        parts = [SelectedByName(part, names) for part in parts]
    size = (data.val_size or data.size) if validates else data.size
    if size is not None:
        parts = [Resized(part, size, data.resample) for part in parts]
    if validates and data.val_crop is not None:
        parts = [CenterCropped(part, data.val_crop) for part in parts]
    edges = None if data.edges is None or validates else EdgeLines(data.edges.width, data.edges.border)
    split = CachedSplit(ConcatDataset(parts, data.limit), cache, device, edges)
    if not split.labelled():
        raise DataError(
            f"{data.name} {'+'.join(splits)}: no pixel of {len(split.batches)} pictures belongs to a class, so there is"
            " nothing to learn or to measure; take a split with labels"
        )
    return split


def _place(cache: Cache, needed: int, device: torch.device) -> torch.device | None:
    """Where decoded pictures are kept; nowhere if they are read anew each time."""
    if cache == "auto":
        return next((place for place in (device, CPU) if needed < 0.25 * _free_bytes(place)), None)
    return {"device": device, "ram": CPU, "none": None}[cache]


def _free_bytes(place: torch.device) -> int:
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _most_bytes(place: torch.device) -> int:
    """What can be had at most; of the computer's memory all, since what it keeps of files can go."""
    return _free_bytes(place) if place.type == "cuda" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
