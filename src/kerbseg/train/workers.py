"""Processes that read pictures: they need shared memory, and one that stalls must not stall the training."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from kerbseg.core.errors import KerbsegError

SHARED_MEMORY = Path("/dev/shm")  # where torch lays batches that go from process to process
STALL_S = 600  # without a batch for so long, a training ends


def check_workers(loaders: Iterable[DataLoader[Any]]) -> None:
    """Lets loaders whose workers stall give up. Raises KerbsegError where batches do not fit into shared memory."""
    needed = 0
    for loader in loaders:
        if loader.num_workers:
            loader.timeout = STALL_S
            # each prefetches some, and one is at work
            needed += (loader.num_workers * (loader.prefetch_factor or 2) + 1) * _batch_bytes(loader)
    if needed and SHARED_MEMORY.is_dir() and (free := _free_bytes(SHARED_MEMORY)) < needed:
        raise KerbsegError(
            f"workers need about {needed / 1e6:.0f} MB of shared memory for their batches, {SHARED_MEMORY} has"
            f" {free / 1e6:.0f} MB; use fewer --workers, or give a container more: docker run --shm-size 1g"
        )


def _batch_bytes(loader: DataLoader[Any]) -> int:
    first = next(iter(loader.sampler))
    parts: dict[str, Any] = loader.dataset.__getitems__([first])  # type: ignore[attr-defined] # all of ours have it
    return (loader.batch_size or 1) * sum(part.nbytes for part in parts.values() if isinstance(part, Tensor))


def _free_bytes(folder: Path) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def of_worker(error: KerbsegError) -> KerbsegError:
    """An error as its place has told it: one that comes out of a worker has that process's whole traceback before."""
    kind = type(error)
    _, marker, text = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
    return kind(text) if marker else error
