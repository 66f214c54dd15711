"""Machine code behind `upsample_argmax`: ids of some rows from logits of any strides, without full-size logits.

What torch computes for contiguous NCHW logits is computed in the same order, with the same roundings: along the row
first, then along the column, each mixture `fma(1 - w, a, w * b)`. Every step is monotone in the logits, so that a class
above another in all four neighbors stays there in float arithmetic too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kerbseg.core.errors import MissingExtra

try:
    from numba import njit, types
    from numba.extending import intrinsic
except ImportError as error:
    raise MissingExtra("numba", "export") from error


def compiled(kernel: Callable[..., Any]) -> Any:
    """The kernel as machine code, kept for the next process where numba has a folder for it.

    Where it has none (a read-only installation, no home) each process compiles anew, which takes some seconds.
    Values are compared as if none were NaN, which lets the compiler use wide registers; NaN is refused before.
    """
    try:
        return njit(nogil=True, cache=True, fastmath={"nnan", "nsz"}, error_model="numpy")(kernel)
    except RuntimeError:
        return njit(nogil=True, fastmath={"nnan", "nsz"}, error_model="numpy")(kernel)


@intrinsic
def _fma(_context, a, b, c):  # type: ignore[no-untyped-def] # numba's own types
    """`a * b + c` with one rounding."""
    number = types.float32

    def generate(_context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fma(*arguments)

    return number(number, number, number), generate


@compiled
def mix(weight, before, after):  # type: ignore[no-untyped-def]
    """Of two values, the second by its weight, as torch rounds it."""
    return _fma(np.float32(1) - weight, before, weight * after)


@compiled
def fill_tops(row, tops):  # type: ignore[no-untyped-def]
    """The class of the largest logit of each pixel of a row [w k]; the first of equal ones."""
    width, classes = row.shape
    for x in range(width):
        pixel = row[x]
        largest = pixel[0]
        for k in range(1, classes):
            largest = pixel[k] if pixel[k] > largest else largest
        for k in range(classes):
            if pixel[k] == largest:
                tops[x] = k
                break


@compiled
def candidates_of(corners, four, chosen):  # type: ignore[no-untyped-def]
    """How many classes may win somewhere between these corners [4 k], whose largest are `four`; `chosen` lists them.

    A class that is below one of the largest in all corners is below it in every mixture.
    """
    count = 0
    for k in range(corners.shape[1]):
        above = True
        for n in range(4):
            rival = four[n]
            below = True
            for corner in range(4):
                below &= corners[corner, k] < corners[corner, rival]
            above &= not below
        chosen[count] = k
        count += above
    return count


@compiled
def interpolate(logits, row_starts, row_weights, starts, column_weights, ids, first, last):  # type: ignore[no-untyped-def]
    """Fills the ids [b H W] below source rows `first` to `last` of logits [b h w k]."""
    batch, height, width, classes = logits.shape
    upper, lower = np.empty(width, np.uint8), np.empty(width, np.uint8)
    borders = np.empty(width, np.int32)
    corners = np.empty((4, classes), np.float32)
    mixed = np.empty((2, classes), np.float32)
    chosen = np.empty(classes + 1, np.int32)
    four = np.empty(4, np.int32)
    for b in range(batch):
        known = -1  # the source row that `lower` is of
        for y in range(first, last):
            begin, end = row_starts[y], row_starts[y + 1]
            if begin == end:
                continue
            below = min(y + 1, height - 1)
            if known == y:
                upper, lower = lower, upper
            else:
                fill_tops(logits[b, y], upper)
            fill_tops(logits[b, below], lower)
            known = below
            line = ids[b, begin]
            count = 0
            for x in range(width):
                beside = min(x + 1, width - 1)
                top = upper[x]
                if top == upper[beside] and top == lower[x] and top == lower[beside]:
                    for column in range(starts[x], starts[x + 1]):
                        line[column] = top
                elif starts[x] < starts[x + 1]:
                    borders[count] = x
                    count += 1
            for out in range(begin + 1, end):
                ids[b, out] = line
            for border in range(count):
                x = borders[border]
                beside = min(x + 1, width - 1)
                for k in range(classes):
                    corners[0, k] = logits[b, y, x, k]
                    corners[1, k] = logits[b, y, beside, k]
                    corners[2, k] = logits[b, below, x, k]
                    corners[3, k] = logits[b, below, beside, k]
                four[0], four[1], four[2], four[3] = upper[x], upper[beside], lower[x], lower[beside]
                rivals = candidates_of(corners, four, chosen)
                for column in range(starts[x], starts[x + 1]):
                    u = column_weights[column]
                    for n in range(rivals):
                        k = chosen[n]
                        mixed[0, n] = mix(u, corners[0, k], corners[1, k])
                        mixed[1, n] = mix(u, corners[2, k], corners[3, k])
                    for out in range(begin, end):
                        v = row_weights[out]
                        best, largest = 0, mix(v, mixed[0, 0], mixed[1, 0])
                        for n in range(1, rivals):
                            value = mix(v, mixed[0, n], mixed[1, n])
                            if value > largest:
                                best, largest = n, value
                        ids[b, out, column] = chosen[best]


@compiled
def argmax(logits, ids, first, last):  # type: ignore[no-untyped-def]
    """The classes of the largest logits [b H W k] of some rows."""
    for b in range(logits.shape[0]):
        for y in range(first, last):
            fill_tops(logits[b, y, : ids.shape[2]], ids[b, y])


@compiled
def dequantize(logits, scale, zero_point, values, first, last):  # type: ignore[no-untyped-def]
    """Float values of some rows of integers [b h w k], each class by its own scale and zero point."""
    for b in range(logits.shape[0]):
        for y in range(first, last):
            for x in range(logits.shape[2]):
                for k in range(logits.shape[3]):
                    values[b, y, x, k] = (np.float32(logits[b, y, x, k]) - zero_point[k]) * scale[k]
