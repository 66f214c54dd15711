"""Batches of uint8 pictures; nothing becomes float before it is on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NotRequired, Protocol, TypedDict, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.resize import Resample, resize_ids, resize_picture
from kerbseg.core.types import Dataset, Sample, samples
from kerbseg.data.edges import EdgeLines
from kerbseg.data.samplers import Draw, EpochShuffle, Order, RareShuffle, shared, strided_shard

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Batch(TypedDict):
    """Samples of one size, stacked."""

    image: UInt8[Tensor, "b 3 h w"]
    mask: UInt8[Tensor, "b h w"]
    name: list[str]
    focus: NotRequired[Float[Tensor, "b 2"]]  # (x, y) that a crop must show; NaN where there is none
    edge: NotRequired[UInt8[Tensor, "b h w"]]  # 1 where classes meet


class _SamplesOf:
    """A data set of the samples of another, which is asked for names, labels and number."""

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.split, self.labels = dataset.name, dataset.split, dataset.labels
        self._dataset = dataset

    @property
    def names(self) -> Sequence[str]:
        """Of the samples."""
        return self._dataset.names

    def __len__(self) -> int:
        return len(self._dataset)


class Resized(_SamplesOf):
    """The same data set with pictures and masks at one size."""

    def __init__(self, dataset: Dataset, size: tuple[int, int], resample: Resample = "bilinear") -> None:
        super().__init__(dataset)
        self._size, self._resample = size, resample

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        image = resize_picture(sample.image, self._size, self._resample)
        return Sample(image, resize_ids(sample.mask, self._size), sample.name)


class CenterCropped(_SamplesOf):
    """The same data set, of each picture the middle alone. Raises DataError for a picture that is smaller."""

    def __init__(self, dataset: Dataset, size: tuple[int, int]) -> None:
        super().__init__(dataset)
        self._size = size

    def __getitem__(self, index: int) -> Sample:
        image, mask, name = self._dataset[index]
        (height, width), (rows, columns) = mask.shape, self._size
        top, left = (height - rows) // 2, (width - columns) // 2
        if top < 0 or left < 0:
            raise DataError(
                f"picture {name!r} is {height}x{width} (HxW), smaller than the middle of {rows}x{columns} that is"
                " looked at; lower data.val_crop, or set data.val_size"
            )
        part = slice(top, top + rows), slice(left, left + columns)
        return Sample(image[part], mask[part], name)


class SelectedByName(_SamplesOf):
    """The samples of a data set whose names fit patterns such as `0001TP*`, in order.

    A pattern with `!` before it takes away what it fits; where all patterns do, the rest is taken.
    Raises DataError where no sample is left.
    """

    def __init__(self, dataset: Dataset, patterns: Sequence[str]) -> None:
        super().__init__(dataset)
        wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
        unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
        self._chosen = [
            (index, name)
            for index, name in enumerate(dataset.names)
            if _fits(name, wanted) and not _fits(name, unwanted)
        ]
        if not self._chosen:
            raise DataError(
                f"no picture of split {self.split!r} of {self.name!r} has a name that fits {', '.join(patterns)};"
                f" names are such as {dataset.names[0]!r}"
            )

    @property
    def names(self) -> list[str]:
        """Of the samples that were taken."""
        return [name for _, name in self._chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._chosen[index][0]]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class ConcatDataset:
    """Several splits as one data set, in order; of each only the first `limit` samples, where one is given."""

    def __init__(self, parts: Sequence[Dataset], limit: int | None = None) -> None:
        self.name, self.labels = parts[0].name, parts[0].labels
        self.split = "+".join(part.split for part in parts)
        self._parts, self._limit = parts, limit
        self._index = [(part, i) for part in parts for i in range(len(part))[:limit]]

    @property
    def names(self) -> list[str]:
        """Of the samples, in order."""
        return [name for part in self._parts for name in part.names[: self._limit]]

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        part, i = self._index[index]
        return part[i]


class InMemory(TorchDataset[Batch]):
    """All samples decoded once into uint8 tensors on a device; a batch is an index into them."""

    in_memory = True

    def __init__(self, dataset: Dataset, device: torch.device | None = None, edges: EdgeLines | None = None) -> None:
        first = dataset[0]
        self._image = torch.empty((len(dataset), *first.image.shape), dtype=torch.uint8, device=device)
        self._mask = torch.empty((len(dataset), *first.mask.shape), dtype=torch.uint8, device=device)
        self._edge = None if edges is None else torch.empty_like(self._mask)
        self._names = []
        for index, sample in enumerate(samples(dataset)):
            check_equal_sizes(first, sample)
            self._image[index] = torch.from_numpy(sample.image)
            self._mask[index] = torch.from_numpy(sample.mask)
            if self._edge is not None and edges is not None:
                self._edge[index] = torch.from_numpy(edges(sample.mask))
            self._names.append(sample.name)
        self.device = self._image.device

    def __len__(self) -> int:
        return len(self._names)

    def __getitems__(self, indices: list[int]) -> Batch:
        at = torch.tensor(indices, device=self.device)
        batch = Batch(
            image=channels_first(self._image[at]), mask=self._mask[at], name=[self._names[i] for i in indices]
        )
        if self._edge is not None:
            batch["edge"] = self._edge[at]
        return batch


class OnDisk(TorchDataset[Batch]):
    """Samples decoded when they are asked for, in the loader's worker processes."""

    in_memory = False
    device = torch.device("cpu")

    def __init__(self, dataset: Dataset, edges: EdgeLines | None = None) -> None:
        self._dataset, self._edges = dataset, edges

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> Batch:
        parts = [self._dataset[i] for i in indices]
        batch = stack(parts)
        if self._edges is not None:
            batch["edge"] = torch.from_numpy(np.stack([self._edges(part.mask) for part in parts]))
        return batch


def stack(parts: Sequence[Sample]) -> Batch:
    """One batch of samples. Raises DataError where their sizes differ."""
    for part in parts[1:]:
        check_equal_sizes(parts[0], part)
    return Batch(
        image=channels_first(torch.from_numpy(np.stack([part.image for part in parts]))),
        mask=torch.from_numpy(np.stack([part.mask for part in parts])),
        name=[part.name for part in parts],
    )


def channels_first(images: UInt8[Tensor, "b h w 3"]) -> UInt8[Tensor, "b 3 h w"]:
    """Pictures as networks take them: the one place where a training's pictures are turned, without a copy."""
    return images.permute(0, 3, 1, 2)


def check_equal_sizes(first: Sample, other: Sample) -> None:
    """Raises DataError where they differ, since a batch is one tensor."""
    if other.mask.shape != first.mask.shape:
        (h, w), (first_h, first_w) = other.mask.shape, first.mask.shape
        raise DataError(
            f"picture {other.name!r} is {h}x{w} but {first.name!r} is {first_h}x{first_w} (HxW);"
            " set data.size=[height,width] in the recipe"
        )


class Batches(Protocol):
    """A data set that gives whole batches."""

    in_memory: bool
    device: torch.device

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...


class SupportsBatches(Protocol[T_co]):
    """Anything that gives whole batches of some kind."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[Any], /) -> T_co: ...


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


class Loader(DataLoader[T]):
    """Batches of a data set that gives whole ones; what is wrong with a file is raised here, in its own words.

    Torch would raise it with the traceback of the worker process that read the file.
    """

    def __init__(self, batches: SupportsBatches[T], **options: Any) -> None:
        super().__init__(_ErrorsAsValues(batches), collate_fn=_as_is, **options)

    def __iter__(self) -> Iterator[T]:  # type: ignore[override] # torch's own class of iterators adds nothing here
        for batch in super().__iter__():
            if isinstance(batch, KerbsegError):
                raise batch
            yield batch


class _ErrorsAsValues(TorchDataset[Any]):
    def __init__(self, batches: SupportsBatches[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitems__(self, indices: list[Any]) -> Any:
        try:
            return self._batches.__getitems__(indices)
        except KerbsegError as error:
            return error


def training_loader(
    dataset: Batches, batch_size: int, seed: int, workers: int, rank: Rank = SINGLE, drop_last: bool = True
) -> DataLoader[Batch]:
    """Shuffled batches of `batch_size` for all processes together, of each this process's rows.

    What is left of an epoch is a smaller one, unless `drop_last`. Raises DataError as `samplers.shared`.
    """
    return _shuffled(dataset, EpochShuffle(len(dataset), seed), batch_size, workers, rank, drop_last)


def rare_loader(
    batches: Batches, order: RareShuffle, batch_size: int, workers: int, rank: Rank = SINGLE, drop_last: bool = True
) -> DataLoader[Batch]:
    """As `training_loader`, with the extra pictures of rare classes. Raises DataError likewise."""
    return _shuffled(WithCropCenters(batches), order, batch_size, workers, rank, drop_last)


def validation_loader(dataset: Batches, batch_size: int, workers: int, rank: Rank = SINGLE) -> DataLoader[Batch]:
    """Every picture once, in order; each process has its own. Raises DataError where one would have none."""
    return _loader(dataset, batch_size // rank.count, workers, strided_shard(len(dataset), rank))


def _shuffled(
    dataset: Batches | WithCropCenters, order: Order, batch_size: int, workers: int, rank: Rank, drop_last: bool
) -> DataLoader[Batch]:
    return _loader(dataset, batch_size // rank.count, workers, shared(order, batch_size, rank, drop_last))


def _loader(
    dataset: Batches | WithCropCenters, batch_size: int, workers: int, sampler: Iterable[Any]
) -> DataLoader[Batch]:
    workers = 0 if dataset.in_memory else workers  # an index needs no process of its own
    return Loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available() and dataset.device.type == "cpu",
    )


def _as_is(batch: T) -> T:
    return batch
