"""From outlines to pixels, by the pixel-center rule.

A point (x, y) lies x pixels right of the picture's left edge and y below its upper edge, so the center of pixel
(row 0, column 0) is (0.5, 0.5). A pixel belongs to a ring where its center lies inside, by the even-odd rule: a hole
that is joined to the outer ring by a seam stays a hole. Rings that share an edge share no pixel and leave none out.
Pillow and OpenCV paint every pixel that an edge touches, which makes each object half a pixel wider on all sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Patch:
    """Pixels of a part of a picture."""

    top: int
    left: int
    mask: Bool[np.ndarray, "h w"]


NOTHING = Patch(0, 0, np.zeros((0, 0), bool))


def fill_ring(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Patch:
    """The pixels of a picture of `size` (height, width) whose centers lie inside a closed ring of (x, y)."""
    height, width = size
    top, bottom = _first_center(points[:, 1].min(), height), _first_center(points[:, 1].max(), height)
    left, right = _first_center(points[:, 0].min(), width), _first_center(points[:, 0].max(), width)
    if top >= bottom or left >= right:
        return NOTHING
    start, end = points, np.roll(points, -1, 0)
    # an edge crosses the rows whose centers lie in [upper end, lower end): an end that two edges share counts once
    first = np.ceil(np.minimum(start[:, 1], end[:, 1]) - 0.5).clip(top, bottom).astype(np.int64)
    last = np.ceil(np.maximum(start[:, 1], end[:, 1]) - 0.5).clip(top, bottom).astype(np.int64)
    crossings = last - first
    edge = np.repeat(np.arange(len(points)), crossings)
    row = np.arange(crossings.sum()) - np.repeat(crossings.cumsum() - crossings, crossings) + first[edge]
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    x = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    column = np.ceil(x - 0.5).clip(left, right).astype(np.int64)
    flips = np.zeros((bottom - top, right - left + 1), bool)
    np.logical_xor.at(flips, (row - top, column - left), True)
    return Patch(top, left, np.logical_xor.accumulate(flips, axis=1)[:, :-1])


def _first_center(coordinate: float, length: int) -> int:
    """The first pixel whose center lies at or after a coordinate, within 0..length."""
    return int(np.clip(np.ceil(coordinate - 0.5), 0, length))
