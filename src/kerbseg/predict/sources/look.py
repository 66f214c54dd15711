"""The frames of a film as a player shows them: turned and mirrored as it says, with square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8

MOST = 4
"""How many times as wide as high (or as high as wide) a pixel can be; what says more is damaged, and shown as it is."""


class Look:
    """Makes RGB pixels of PyAV's frames.

    An anamorphic film is made as wide (or as high) as it is shown, since a network has learnt things in their own
    proportions; none of its pixels is lost by that.
    """

    def __init__(self, sample_aspect_ratio: Fraction | None, reformatter: Any) -> None:
        ratio = sample_aspect_ratio or Fraction(1)
        self._reformatter = reformatter  # one for all frames: to set it up takes longer than to use it
        self._ratio = ratio if Fraction(1, MOST) <= ratio <= MOST else Fraction(1)

    def __call__(self, frame: Any) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels of a frame."""
        width, height = frame.width, frame.height
        if self._ratio > 1:
            width = round(width * self._ratio)
        else:
            height = round(height / self._ratio)
        pixels: np.ndarray = self._reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(turned(pixels, display_matrix(frame)))


def display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of the matrix beside a frame: its point (x, y) is shown at (a x + c y, b x + d y)."""
    for side_data in frame.side_data:
        if side_data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32, 5).tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def turned(pixels: UInt8[np.ndarray, "h w 3"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels under the one of the eight turns and mirrorings that is nearest to the matrix."""
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    if right < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if down < 0 else pixels
