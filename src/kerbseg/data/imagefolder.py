"""Pictures of one class each, `<split>/<class>/<picture>`: what classifiers are trained on, ImageNet among it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import DataError
from kerbseg.data.loading import Loader, channels_first
from kerbseg.data.pairs import files_below, is_picture, readable
from kerbseg.data.pictures import read_rgb
from kerbseg.data.samplers import EpochShuffle, shared, strided_shard

CENTRE = 0.875  # side of the square that is looked at, as a share of the shorter side: 224 of 256


class ClassBatch(TypedDict):
    """Squares of pictures, and the class of each."""

    image: UInt8[Tensor, "b 3 s s"]
    label: Int64[Tensor, " b"]


class ImageFolder:
    """The pictures of a split in order of their paths; a class's position among the folder names is its id."""

    def __init__(self, root: Path, split: str, limit: int | None = None) -> None:
        folder = root / split
        with readable():
            if not folder.is_dir():
                raise DataError(f"folder {folder} does not exist; it holds a folder of pictures for each class")
            inside = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
            self.classes = tuple(sorted(path.name for path in inside))
        self.files: list[tuple[Path, int]] = []
        for label, name in enumerate(self.classes):
            pictures = [path for path in files_below(folder / name) if is_picture(path)]
            if not pictures:
                raise DataError(f"{folder / name} holds no pictures that can be read; add some, or remove the folder")
            self.files += [(path, label) for path in pictures[:limit]]
        if len(self.classes) < 2:
            raise DataError(f"{folder} has {len(self.classes)} class folder(s); a classifier needs two or more")

    def __len__(self) -> int:
        return len(self.files)


def open_folders(name: str, train: str, val: str, root: str | Path | None, limit: int | None) -> list[ImageFolder]:
    """Two splits of the same classes. Without `root` they are looked for at `$KERBSEG_DATA/<name>`.

    Raises DataError for folders that are missing or empty, and classes that differ.
    """
    if root is None:
        if "KERBSEG_DATA" not in os.environ:
            raise DataError(f"no root for pictures {name!r}; pass --data-root or set KERBSEG_DATA to the folder above")
        root = Path(os.environ["KERBSEG_DATA"]) / name
    splits = [ImageFolder(Path(root), split, limit) for split in (train, val)]
    if different := sorted(set(splits[0].classes) ^ set(splits[1].classes)):
        raise DataError(f"class {different[0]!r} is not in both of {train} and {val} under {root}; both need the same")
    return splits


class RandomSquares(TorchDataset[ClassBatch]):
    """A random part of each picture, resized to a square and mirrored half of the time (Szegedy et al., Inception).

    It is drawn by the number that `EpochDraws` gives, so that workers and resumed runs see the same.
    """

    def __init__(
        self,
        folder: ImageFolder,
        size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        seed: int,
    ) -> None:
        self._folder, self._size, self._scale, self._ratio, self._seed = folder, size, scale, ratio, seed

    def __len__(self) -> int:
        return len(self._folder)

    def __getitems__(self, draws: list[int]) -> ClassBatch:
        return _batch([self._square(draw) for draw in draws])

    def _square(self, draw: int) -> tuple[UInt8[np.ndarray, "s s 3"], int]:
        random = np.random.default_rng([self._seed, draw])
        path, label = self._folder.files[draw % len(self._folder)]
        picture = read_rgb(path)
        square = _resized(picture, self._part(picture.shape[0], picture.shape[1], random), self._size)
        return (square[:, ::-1] if random.random() < 0.5 else square), label

    def _part(self, height: int, width: int, random: np.random.Generator) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of a part of the picture; the whole where no part of that shape fits."""
        for _ in range(10):
            area = random.uniform(*self._scale) * height * width
            ratio = math.exp(random.uniform(math.log(self._ratio[0]), math.log(self._ratio[1])))
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                left, top = random.uniform(0, width - w), random.uniform(0, height - h)
                return left, top, left + w, top + h
        return 0, 0, width, height


class CenterSquares(TorchDataset[ClassBatch]):
    """The middle of each picture, at one size."""

    def __init__(self, folder: ImageFolder, size: int) -> None:
        self._folder, self._size = folder, size

    def __len__(self) -> int:
        return len(self._folder)

    def __getitems__(self, indices: list[int]) -> ClassBatch:
        return _batch([self._square(i) for i in indices])

    def _square(self, index: int) -> tuple[UInt8[np.ndarray, "s s 3"], int]:
        path, label = self._folder.files[index]
        picture = read_rgb(path)
        height, width = picture.shape[:2]
        side = CENTRE * min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        return _resized(picture, (left, top, left + side, top + side), self._size), label


class EpochDraws(EpochShuffle):
    """Each picture once an epoch in random order, as a number that also tells the epoch: epoch * length + picture."""

    def __iter__(self) -> Iterator[int]:
        return (index + self._epoch * self._length for index in super().__iter__())


def class_loader(
    squares: RandomSquares | CenterSquares,
    batch_size: int,
    workers: int,
    seed: int | None = None,
    rank: Rank = SINGLE,
    drop_last: bool = True,
) -> DataLoader[ClassBatch]:
    """Batches in random order where there is a seed; every picture once, in order, without.

    A batch is that of all processes, and this one has its share. Raises DataError as `samplers.shared`.
    """
    sampler: Iterable[int]
    if seed is None:
        sampler = strided_shard(len(squares), rank)
    else:
        sampler = shared(EpochDraws(len(squares), seed), batch_size, rank, drop_last)
    return Loader(
        squares,
        batch_size=batch_size // rank.count,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _resized(
    picture: UInt8[np.ndarray, "h w 3"], part: tuple[float, float, float, float], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    return np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=part))


def _batch(squares: list[tuple[UInt8[np.ndarray, "s s 3"], int]]) -> ClassBatch:
    pictures = channels_first(torch.from_numpy(np.stack([square for square, _ in squares])))
    return ClassBatch(image=pictures, label=torch.tensor([label for _, label in squares]))
