"""How others write down their normalization: three numbers, of pixels in 0..1 or in 0..255."""

from __future__ import annotations

from typing import Literal

from kerbseg.core.errors import KerbsegError
from kerbseg.core.types import Preprocessing

WHITE = 255
Three = tuple[float, float, float]


def read_preprocessing(mean: str | None, std: str | None, channels: Literal["rgb", "bgr"] = "rgb") -> Preprocessing:
    """The preprocessing of texts such as `0.485,0.456,0.406`, in the order of the channels.

    Where a number is above 1 both are of pixels of 0..255. Raises KerbsegError for other texts, and where one of the
    two can only be of pixels of 0..1 and the other of 0..255.
    """
    means = _three("mean", mean) or (0.0, 0.0, 0.0)
    stds = _three("std", std) or (1.0, 1.0, 1.0)
    if max(stds) > 1 >= max(means) > 0 or max(means) > 1 > max(stds):
        raise KerbsegError(
            f"--mean {mean} and --std {std} are of different pixels, one of 0..1 and one of 0..255; give both alike"
        )
    if max(*means, *stds) > 1:
        means, stds = _of_unit(means), _of_unit(stds)
    return Preprocessing(channels, means, stds)


def _of_unit(values: Three) -> Three:
    return values[0] / WHITE, values[1] / WHITE, values[2] / WHITE


def _three(name: str, text: str | None) -> Three | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise KerbsegError(f"--{name} {text!r} is not three numbers; write them with commas, such as 0.485,0.456,0.406")
    return values[0], values[1], values[2]
