"""Batches of uint8 pictures; nothing becomes float before it is on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

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


class Gathered:
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
    """All samples decoded once into two uint8 tensors; a batch is an index into them."""

    def __init__(self, dataset: Dataset) -> None:
        whole = stack(list(samples(dataset)))
        self._image, self._mask, self._names = whole["image"], whole["mask"], whole["name"]

    def __len__(self) -> int:
        return len(self._names)

    def __getitems__(self, indices: list[int]) -> Batch:
        return Batch(image=self._image[indices], mask=self._mask[indices], name=[self._names[i] for i in indices])


class OnDisk(TorchDataset[Batch]):
    """Samples decoded when they are asked for, in the loader's worker processes."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> Batch:
        return stack([self._dataset[i] for i in indices])


def stack(parts: Sequence[Sample]) -> Batch:
    """One batch of samples. Raises DataError where their sizes differ."""
    for part in parts[1:]:
        if part.mask.shape != parts[0].mask.shape:
            (h, w), (first_h, first_w) = part.mask.shape, parts[0].mask.shape
            raise DataError(
                f"picture {part.name!r} is {w}x{h} but {parts[0].name!r} is {first_w}x{first_h};"
                " set data.size=[height,width] in the recipe"
            )
    return Batch(
        image=torch.from_numpy(np.stack([part.image for part in parts])),
        mask=torch.from_numpy(np.stack([part.mask for part in parts])),
        name=[part.name for part in parts],
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


class Batches(Protocol):
    """A data set that gives whole batches."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...


class Focused(TorchDataset[Batch]):
    """Batches that know which point of each picture a crop must show."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitems__(self, draws: list[Draw]) -> Batch:
        batch = self._batches.__getitems__([draw.picture for draw in draws])
        batch["focus"] = torch.tensor([(draw.x, draw.y) for draw in draws])
        return batch


def training_loader(dataset: TorchDataset[Batch], batch_size: int, seed: int, workers: int) -> DataLoader[Batch]:
    """Shuffled whole batches; the last few pictures of an epoch wait for the next order.

    Raises DataError where there are fewer pictures than one batch needs.
    """
    length = len(dataset)  # type: ignore[arg-type]
    if length < batch_size:
        raise DataError(f"{length} training pictures are fewer than batch_size={batch_size}; lower batch_size")
    return _loader(dataset, batch_size, workers, EpochShuffle(length, seed), drop_last=True)


def rare_loader(batches: Batches, order: RareShuffle, batch_size: int, workers: int) -> DataLoader[Batch]:
    """As `training_loader`, with the extra pictures of rare classes. Raises DataError likewise."""
    if len(order) < batch_size:
        raise DataError(f"{len(order)} training pictures are fewer than batch_size={batch_size}; lower batch_size")
    return _loader(Focused(batches), batch_size, workers, order, drop_last=True)


def validation_loader(dataset: TorchDataset[Batch], batch_size: int, workers: int) -> DataLoader[Batch]:
    """Every picture once, in order."""
    return _loader(dataset, batch_size, workers, sampler=None, drop_last=False)


def _loader(
    dataset: TorchDataset[Batch],
    batch_size: int,
    workers: int,
    sampler: Sampler[int] | RareShuffle | None,
    drop_last: bool,
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_is,  # type: ignore[arg-type] # the data sets give whole batches
        drop_last=drop_last,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _as_is(batch: Batch) -> Batch:
    return batch
