"""Street scenes drawn by a program, with the 19 classes of Cityscapes: a data set that needs no download.

A scene follows from seed, split and index alone. The pictures are made to be learned from, not to be mistaken for
photographs: colors, light, weather and proportions vary, so that color alone does not give a class away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import label_set
from kerbseg.core.types import Sample
from kerbseg.data.scenes.street import Street

COUNTS = {"train": 400, "val": 60, "test": 60}


class Scenes:
    """`count` streets of one split, each seen once."""

    name = "scenes"

    def __init__(self, split: str, count: int | None = None, size: tuple[int, int] = (256, 512), seed: int = 0) -> None:
        if split not in COUNTS:
            raise DataError(f"scenes has no split {split!r}; {did_you_mean(split, COUNTS)}")
        if min(size) < 16:
            raise DataError(f"scenes are at least 16x16, found {size[0]}x{size[1]} (HxW)")
        self.split, self.labels = split, label_set("cityscapes")
        self._count = COUNTS[split] if count is None else count
        self._size, self._seed = size, seed

    @property
    def names(self) -> list[str]:
        """Of the scenes, in order."""
        return [self._name(index) for index in range(self._count)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        key = (self._seed, list(COUNTS).index(self.split), index)
        picture, mask = frame(key, self._size, time=0.0)
        return Sample(picture, mask, self._name(index))

    def _name(self, index: int) -> str:
        return f"{self.split}_{index:05}"


def frame(
    key: tuple[int, ...], size: tuple[int, int], time: float
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Picture and train ids of a street at a time in seconds."""
    street = Street(key)
    sensor = street.chance(99)
    noise, blur = sensor.uniform(1.5, 8), sensor.choice((0.0, 0.0, 0.6, 0.9))
    return street.draw(size, time).finish(street.chance(98, round(1000 * time)), float(noise), float(blur))


def drive(
    seed: int, size: tuple[int, int] = (256, 512), frames_per_second: float = 25.0
) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]]:
    """Frames of a drive along one street, without end: picture and train ids."""
    number = 0
    while True:
        yield frame((seed, len(COUNTS)), size, number / frames_per_second)
        number += 1


def open_split(root: Path, split: str) -> Scenes:
    """A split of the data set; no root is needed."""
    return Scenes(split)


def splits(root: Path) -> tuple[str, ...]:
    """All splits."""
    return tuple(COUNTS)
