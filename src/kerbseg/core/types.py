"""The types that flow between stages; each is made in one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet

VOID = 255
"""Train id of pixels that belong to no class: no loss, no score."""


class Sample(NamedTuple):
    """One raw picture with its train ids; nothing is normalized or augmented here.

    A named tuple, which torch's `DataLoader` stacks as it is: uint8 [b h w 3], uint8 [b h w], names.
    """

    image: UInt8[np.ndarray, "h w 3"]  # RGB
    mask: UInt8[np.ndarray, "h w"]  # train ids, VOID elsewhere
    name: str


class Dataset(Protocol):
    """Raw samples of one split, in a fixed order."""

    name: str
    split: str
    labels: LabelSet

    @property
    def names(self) -> Sequence[str]:
        """Of the samples, in order; known without decoding a picture."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def samples(dataset: Dataset) -> Iterator[Sample]:
    """Every sample of a data set, in order."""
    return (dataset[index] for index in range(len(dataset)))


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects of its pixels: `(channels(rgb) / 255 - mean) / std`, mean and std in channel order."""

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.channels not in ("rgb", "bgr"):
            raise KerbsegError(f"preprocessing channels {self.channels!r}; choose from: rgb, bgr")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(isinstance(each, int | float) and abs(each) <= 1e6 for each in values):
                raise KerbsegError(f"preprocessing {name} {values}; it is three numbers, one a channel")
        if not min(self.std) >= 1e-6:
            raise KerbsegError(f"preprocessing std {self.std}; pixels are divided by it, so it is greater than 0")
