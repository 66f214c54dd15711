"""Which pictures come in which order: all follows from seed and epoch, and each rank has its part of every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch.utils.data import Sampler

from kerbseg.core.distributed import Rank
from kerbseg.core.errors import DataError


class EpochShuffle(Sampler[int]):
    """A permutation that follows from seed and epoch alone, so that a resumed run sees the same order."""

    def __init__(self, length: int, seed: int) -> None:
        self._length, self._seed, self._epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._length)
        return iter(order.tolist())


class Draw(NamedTuple):
    """A picture, and the point (x, y) in it that a crop must show."""

    picture: int
    x: float = math.nan
    y: float = math.nan


Places = Mapping[int, Sequence[tuple[float, float]]]  # picture -> centers (x, y) of the objects of a class in it


class RareShuffle(Sampler[Draw]):
    """Every picture once and `extra` more a rare class, each around one of its objects, in random order.

    A class draws among its pictures first and among the picture's objects then (EfficientSeg, sec. 4), so a crowd in
    one picture does not outweigh the others. As in `EpochShuffle` all follows from seed and epoch.
    """

    def __init__(self, length: int, places: Sequence[Places], extra: int, seed: int) -> None:
        self._length, self._places, self._extra, self._seed, self._epoch = length, places, extra, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length + self._extra * len(self._places)

    def __iter__(self) -> Iterator[Draw]:
        random = np.random.default_rng([self._seed, self._epoch])
        draws = [Draw(index) for index in range(self._length)]
        for places in self._places:
            pictures = sorted(places)
            chosen = random.choice(pictures, self._extra).tolist()
            draws += [Draw(i, *places[i][int(random.integers(len(places[i])))]) for i in chosen]
        return iter([draws[i] for i in random.permutation(len(draws))])


class Order(Protocol):
    """What comes in which order in an epoch."""

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class BatchShardSampler(Sampler[Any]):
    """One process's rows of each whole batch of an order: those of all processes make up a single process's batch.

    The last few of an epoch, too few for a batch, wait for the next order, or are a smaller one without `drop_last`.
    """

    def __init__(self, order: Order, batch_size: int, rank: Rank, drop_last: bool = True) -> None:
        self._order, self._batch_size, self._rank, self._drop_last = order, batch_size, rank, drop_last

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        count = len(self._order)
        return (count - count % self._batch_size * self._drop_last) // self._rank.count

    def __iter__(self) -> Iterator[Any]:
        order = list(self._order)
        for start in range(0, len(self) * self._rank.count, self._batch_size):
            batch = order[start : start + self._batch_size]
            yield from batch[self._rank.rows(len(batch) // self._rank.count)]


def strided_shard(length: int, rank: Rank) -> range:
    """The pictures that are this process's if all take one by turns. Raises DataError where one would have none."""
    if length < rank.count:
        raise DataError(f"{length} validation pictures are fewer than the {rank.count} processes; use fewer devices")
    return range(rank.index, length, rank.count)


def shared(order: Order, batch_size: int, rank: Rank, drop_last: bool = True) -> BatchShardSampler:
    """This process's rows of an order's batches.

    Raises DataError where there are too few pictures for one, or where the last batch cannot be shared out.
    """
    if drop_last and len(order) < batch_size:
        there = "1 training picture is" if len(order) == 1 else f"{len(order)} training pictures are"
        raise DataError(f"{there} fewer than batch_size={batch_size}; lower batch_size, or add pictures")
    left = len(order) % batch_size
    if not drop_last and left % rank.count:
        raise DataError(
            f"an epoch ends with a batch of {left}, which {rank.count} processes cannot share alike; set"
            " drop_last=true, or use another number of devices"
        )
    return BatchShardSampler(order, batch_size, rank, drop_last)
