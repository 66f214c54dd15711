"""Batches of uint8 pictures; nothing becomes float before it is on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import DataError
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.core.types import Dataset, Sample, samples


class Batch(TypedDict):
    """Samples of one size, stacked."""

    image: UInt8[Tensor, "b 3 h w"]
    mask: UInt8[Tensor, "b h w"]
    name: list[str]
    focus: NotRequired[Float[Tensor, "b 2"]]  # (x, y) that a crop must show; NaN where there is none


class Resized:
    """The same data set with pictures and masks at one size."""

    def __init__(self, dataset: Dataset, size: tuple[int, int]) -> None:
        self.name, self.split, self.labels = dataset.name, dataset.split, dataset.labels
        self._dataset, self._size = dataset, size

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        picture = resize_picture(np.ascontiguousarray(sample.image.transpose(1, 2, 0)), self._size)
        mask = resize_ids(sample.mask, self._size)
        return Sample(np.ascontiguousarray(picture.transpose(2, 0, 1)), mask, sample.name)


class ConcatDataset:
    """Several splits as one data set, in order; of each only the first `limit` samples, where one is given."""

    def __init__(self, parts: Sequence[Dataset], limit: int | None = None) -> None:
        self.name, self.labels = parts[0].name, parts[0].labels
        self.split = "+".join(part.split for part in parts)
        self._index = [(part, i) for part in parts for i in range(len(part))[:limit]]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        part, i = self._index[index]
        return part[i]


class InMemory(TorchDataset[Batch]):
    """All samples decoded once into two uint8 tensors on a device; a batch is an index into them."""

    in_memory = True

    def __init__(self, dataset: Dataset, device: torch.device | None = None) -> None:
        first = dataset[0]
        self._image = torch.empty((len(dataset), *first.image.shape), dtype=torch.uint8, device=device)
        self._mask = torch.empty((len(dataset), *first.mask.shape), dtype=torch.uint8, device=device)
        self._names = []
        for index, sample in enumerate(samples(dataset)):
            check_equal_sizes(first, sample)
            self._image[index] = torch.from_numpy(sample.image)
            self._mask[index] = torch.from_numpy(sample.mask)
            self._names.append(sample.name)
        self.device = self._image.device

    def __len__(self) -> int:
        return len(self._names)

    def __getitems__(self, indices: list[int]) -> Batch:
        at = torch.tensor(indices, device=self.device)
        return Batch(image=self._image[at], mask=self._mask[at], name=[self._names[i] for i in indices])


class OnDisk(TorchDataset[Batch]):
    """Samples decoded when they are asked for, in the loader's worker processes."""

    in_memory = False
    device = torch.device("cpu")

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> Batch:
        return stack([self._dataset[i] for i in indices])


def stack(parts: Sequence[Sample]) -> Batch:
    """One batch of samples. Raises DataError where their sizes differ."""
    for part in parts[1:]:
        check_equal_sizes(parts[0], part)
    return Batch(
        image=torch.from_numpy(np.stack([part.image for part in parts])),
        mask=torch.from_numpy(np.stack([part.mask for part in parts])),
        name=[part.name for part in parts],
    )


def check_equal_sizes(first: Sample, other: Sample) -> None:
    """Raises DataError where they differ, since a batch is one tensor."""
    if other.mask.shape != first.mask.shape:
        (h, w), (first_h, first_w) = other.mask.shape, first.mask.shape
        raise DataError(
            f"picture {other.name!r} is {w}x{h} but {first.name!r} is {first_w}x{first_h};"
            " set data.size=[height,width] in the recipe"
        )


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


Places = Mapping[int, Sequence[tuple[float, float]]]  # picture -> centres (x, y) of the objects of a class in it


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

    The last few of an epoch, too few for a batch, wait for the next order.
    """

    def __init__(self, order: Order, batch_size: int, process: Rank) -> None:
        self._order, self._batch_size, self._process = order, batch_size, process
        self._rows = process.rows(batch_size // process.count)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order) // self._batch_size * (self._batch_size // self._process.count)

    def __iter__(self) -> Iterator[Any]:
        order = list(self._order)
        for start in range(0, len(order) - self._batch_size + 1, self._batch_size):
            yield from order[start : start + self._batch_size][self._rows]


class Batches(Protocol):
    """A data set that gives whole batches."""

    in_memory: bool
    device: torch.device

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...


class WithCropCenters(TorchDataset[Batch]):
    """Batches that know which point of each picture a crop must show."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.in_memory, self.device = batches.in_memory, batches.device

    def __len__(self) -> int:
        return len(self._batches)

    def __getitems__(self, draws: list[Draw]) -> Batch:
        batch = self._batches.__getitems__([draw.picture for draw in draws])
        batch["focus"] = torch.tensor([(draw.x, draw.y) for draw in draws])
        return batch


def training_loader(
    dataset: Batches, batch_size: int, seed: int, workers: int, process: Rank = SINGLE
) -> DataLoader[Batch]:
    """Shuffled whole batches of `batch_size` for all processes together; of each, this process's rows.

    Raises DataError where there are fewer pictures than one batch needs.
    """
    return _shuffled(dataset, EpochShuffle(len(dataset), seed), batch_size, workers, process)


def rare_loader(
    batches: Batches, order: RareShuffle, batch_size: int, workers: int, process: Rank = SINGLE
) -> DataLoader[Batch]:
    """As `training_loader`, with the extra pictures of rare classes. Raises DataError likewise."""
    return _shuffled(WithCropCenters(batches), order, batch_size, workers, process)


def validation_loader(dataset: Batches, batch_size: int, workers: int, process: Rank = SINGLE) -> DataLoader[Batch]:
    """Every picture once, in order; each process has its own. Raises DataError where one would have none."""
    return _loader(dataset, batch_size // process.count, workers, strided_shard(len(dataset), process))


def strided_shard(length: int, process: Rank) -> range:
    """The pictures that are this process's if all take one by turns. Raises DataError where one would have none."""
    if length < process.count:
        raise DataError(f"{length} validation pictures are fewer than the {process.count} processes; use fewer devices")
    return range(process.rank, length, process.count)


def shared(order: Order, batch_size: int, process: Rank) -> BatchShardSampler:
    """This process's rows of an order's batches. Raises DataError where there are too few pictures for one."""
    if len(order) < batch_size:
        raise DataError(f"{len(order)} training pictures are fewer than batch_size={batch_size}; lower batch_size")
    return BatchShardSampler(order, batch_size, process)


def _shuffled(
    dataset: Batches | WithCropCenters, order: Order, batch_size: int, workers: int, process: Rank
) -> DataLoader[Batch]:
    return _loader(dataset, batch_size // process.count, workers, shared(order, batch_size, process))


def _loader(
    dataset: Batches | WithCropCenters, batch_size: int, workers: int, sampler: Iterable[Any]
) -> DataLoader[Batch]:
    workers = 0 if dataset.in_memory else workers  # an index needs no process of its own
    return DataLoader(
        dataset,  # type: ignore[arg-type] # it gives whole batches
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_is,  # type: ignore[arg-type] # likewise
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and dataset.device.type == "cpu",
    )


def _as_is(batch: Batch) -> Batch:
    return batch
