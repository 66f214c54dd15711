"""The borders of an overlay as machine code, for the frames of videos: numpy's pixels, in a tenth of its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kerbseg.core.errors import MissingExtra

try:
    from numba import njit
except ImportError as error:
    raise MissingExtra("numba", "export") from error


def compiled(kernel: Callable[..., Any]) -> Any:
    """The kernel as machine code, kept for the next process where numba has a folder for it."""
    try:
        return njit(nogil=True, cache=True)(kernel)
    except RuntimeError:
        return njit(nogil=True)(kernel)


@compiled
def paint_borders(band, picture, around, strength, colors, weights, margin, faintest):  # type: ignore[no-untyped-def]
    """Paints, in place, the borders in a band of an overlay (`kerbseg.predict.draw.Paint`)."""
    height, width = strength.shape
    for y in range(height):
        for x in range(width):
            if strength[y, x] <= faintest:
                continue
            row, column = y + margin, x + margin
            weight = np.int32(weights[strength[y, x]])
            own = around[row, column]
            left, right = around[row, column - 1], around[row, column + 1]
            above, below = around[row - 1, column], around[row + 1, column]
            for channel in range(3):
                beside = (np.int32(colors[left, channel]) + np.int32(colors[right, channel])) >> 1
                upright = (np.int32(colors[above, channel]) + np.int32(colors[below, channel])) >> 1
                color = (np.int32(colors[own, channel]) + ((beside + upright) >> 1)) >> 1
                pixel = np.int32(picture[y, x, channel])
                band[y, x, channel] = np.uint8(pixel + (((color - pixel) * weight) >> 7))
