"""What every source gives: frames, each a picture with its exact time and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

Kind = Literal["picture", "video"]
"""A picture stands alone; the frames of a video follow each other in time."""


@dataclass(frozen=True)
class Stamp:
    """Where a frame comes from on a robot: its topic, and what the header of its message says."""

    topic: str
    frame_id: str = ""  # the coordinate frame of the camera
    stamp_ns: int = 0  # of the header: when the picture was taken
    log_ns: int = 0  # when the message was recorded or came


@dataclass(frozen=True)
class Frame:
    """A picture, shown from `pts * time_base` seconds on."""

    picture: UInt8[np.ndarray, "h w 3"]  # RGB
    index: int = 0  # 0 for the first of its source
    pts: int = 0
    time_base: Fraction = Fraction(1, 1_000_000_000)  # `pts` in nanoseconds, as recorders of robots have it
    duration: int = 0  # in time_base; 0 where nothing is known
    rate: Fraction = Fraction(25)  # frames a second on average, as the source announces it
    origin: str = ""  # the source, as a user knows it
    stamp: Stamp | None = None  # of a robot's message alone

    @property
    def time_ns(self) -> int:
        """The time in whole nanoseconds; `pts * time_base` is exact."""
        return round(self.pts * self.time_base * 1_000_000_000)


def _unknown() -> int:
    return 0


@dataclass(frozen=True)
class Source:
    """Where frames come from; each iteration reads it anew. Two are one where name, origin and kind are the same."""

    name: str  # the beginning of its results' names
    frames: Callable[[], Iterator[Frame]] = field(compare=False)
    origin: str = ""  # as a user knows it, for errors and reports
    kind: Kind = "video"
    path: Path | None = None  # the file, where it is one: results never overwrite it
    count: Callable[[], int] = field(default=_unknown, compare=False)  # frames it announces; 0 where nobody knows

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def __str__(self) -> str:
        return self.origin or self.name
