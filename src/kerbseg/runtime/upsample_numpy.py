"""`upsample_argmax` in numpy alone, for a process that segments one picture: to import numba would take longer.

In the order and with the roundings of the machine code, so that a process whose second picture goes through that gives
the same ids: a product of two float32 numbers is exact in float64, and the sum is rounded once more than a fused
multiply-add rounds it, which may change the last bit of one value in 2^29.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

Logits = Float32[np.ndarray, "b h w k"] | UInt8[np.ndarray, "b h w k"]


def upsampled_ids(
    logits: Logits,
    row_starts: Int32[np.ndarray, " _"],
    row_weights: Float32[np.ndarray, " _"],
    starts: Int32[np.ndarray, " _"],
    column_weights: Float32[np.ndarray, " _"],
    size: tuple[int, int],
) -> UInt8[np.ndarray, "b H W"]:
    """Ids at `size` of logits, by the places and weights of `UpsampleArgmax`.

    Pixels between four of one class are that class; the others are interpolated, one of each such cell at a time.
    """
    height, width = logits.shape[1:3]
    below, beside = np.minimum(np.arange(height) + 1, height - 1), np.minimum(np.arange(width) + 1, width - 1)
    tall, wide = np.diff(row_starts), np.diff(starts)
    tops = logits.argmax(3).astype(np.uint8)
    lower = tops[:, below]
    alike = (tops == lower) & (tops == tops[..., beside]) & (tops == lower[..., beside])
    ids = np.ascontiguousarray(tops.repeat(tall, 1).repeat(wide, 2)[:, : size[0], : size[1]])
    b, y, x = np.nonzero(~alike & (tall > 0)[:, None] & (wide > 0))  # cells at a border between classes
    corners = [logits[b, row, column].astype(np.float32) for row in (y, below[y]) for column in (x, beside[x])]
    for down, right in product(range(tall.max(initial=0)), range(wide.max(initial=0))):
        inside = (down < tall[y]) & (right < wide[x])
        row, column = row_starts[y[inside]] + down, starts[x[inside]] + right
        upper_left, upper_right, lower_left, lower_right = (corner[inside] for corner in corners)
        u, v = column_weights[column][:, None], row_weights[row][:, None]
        mixed = _mix(v, _mix(u, upper_left, upper_right), _mix(u, lower_left, lower_right))
        ids[b[inside], row, column] = mixed.argmax(1)
    return ids


def _mix(weight: Any, before: Any, after: Any) -> Any:
    """Of two values, the second by its weight: `fma(1 - weight, before, weight * after)`."""
    exact = (np.float32(1) - weight).astype(np.float64) * before
    return (exact + weight * after).astype(np.float32)
