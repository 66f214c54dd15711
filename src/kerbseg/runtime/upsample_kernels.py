"""Machine code behind `upsample_argmax`: ids of some rows, without full-size logits.

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
    """
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(kernel)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(kernel)


@intrinsic
def _fma(_context, a, b, c):  # type: ignore[no-untyped-def] # numba's own types
    """`a * b + c`, rounded once."""

    def generate(_context, builder, _signature, values):  # type: ignore[no-untyped-def]
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def _as_float(_context, bits):  # type: ignore[no-untyped-def]
    """The float32 of these bits."""

    def generate(context, builder, _signature, values):  # type: ignore[no-untyped-def]
        return builder.bitcast(values[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


@compiled
def mix(weight, before, after):  # type: ignore[no-untyped-def]
    """Of two values, the second by its weight, as torch rounds it."""
    return _fma(np.float32(1) - weight, before, weight * after)


@compiled
def exp(x):  # type: ignore[no-untyped-def]
    """`e ** x` for x <= 0 to 2e-7 of itself: a power of two times Taylor's polynomial, which fits wide registers."""
    x = max(x, np.float32(-87))
    whole = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    rest = _fma(whole, np.float32(-0.693359375), x)  # ln 2 in two parts, the first of few bits
    rest = _fma(whole, np.float32(2.12194440054690583e-4), rest)
    value = np.float32(1 / 5040)
    value = _fma(value, rest, np.float32(1 / 720))
    value = _fma(value, rest, np.float32(1 / 120))
    value = _fma(value, rest, np.float32(1 / 24))
    value = _fma(value, rest, np.float32(1 / 6))
    value = _fma(value, rest, np.float32(1 / 2))
    value = _fma(value, rest, np.float32(1))
    value = _fma(value, rest, np.float32(1))
    return value * _as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@compiled
def fill_tops(logits, planes, b, y, tops, largest):  # type: ignore[no-untyped-def]
    """The class of the largest logit of each pixel of a row, the first of equal ones; `largest` is scratch."""
    width = len(tops)
    if planes:  # [b k h w]
        for x in range(width):
            largest[x], tops[x] = logits[b, 0, y, x], 0
        for k in range(1, logits.shape[1]):
            line = logits[b, k, y]
            for x in range(width):
                above = line[x] > largest[x]
                largest[x] = line[x] if above else largest[x]
                tops[x] = np.uint8(k) if above else tops[x]
    else:  # [b h w k]
        for x in range(width):
            pixel = logits[b, y, x]
            top, value = 0, pixel[0]
            for k in range(1, len(pixel)):
                if pixel[k] > value:
                    top, value = k, pixel[k]
            tops[x] = top


@compiled
def fill_corners(pixels, y, below, x, beside, corners):  # type: ignore[no-untyped-def]
    """The logits [4 k] around a cell, from those of a picture [h w k]."""
    for k in range(pixels.shape[2]):
        corners[0, k] = pixels[y, x, k]
        corners[1, k] = pixels[y, beside, k]
        corners[2, k] = pixels[below, x, k]
        corners[3, k] = pixels[below, beside, k]


@compiled
def rivals_of(corners, four, rivals):  # type: ignore[no-untyped-def]
    """How many classes are not below one of the corners' `four` largest in all of them [4 k]: none else can win.

    `rivals` lists them in order; what lies behind is scratch.
    """
    classes = corners.shape[1]
    a, b, c, d = corners[0], corners[1], corners[2], corners[3]
    far = rivals[classes + 1 :]
    for k in range(classes):
        far[k] = 0
    for n in range(4):
        top = four[n]
        if n and top == four[n - 1]:
            continue
        over_a, over_b, over_c, over_d = a[top], b[top], c[top], d[top]
        for k in range(classes):
            far[k] |= (a[k] < over_a) & (b[k] < over_b) & (c[k] < over_c) & (d[k] < over_d)
    count = 0
    for k in range(classes):
        rivals[count] = k
        count += 1 - far[k]
    return count


@compiled
def fill_ids(corners, rivals, count, row_weights, column_weights, rows, columns, ids, mixed):  # type: ignore[no-untyped-def]
    """The ids [H W] of a cell's pixels, of which only the rivals can win; `mixed` [2 k] is scratch."""
    for column in range(*columns):
        u = column_weights[column]
        for n in range(count):
            k = rivals[n]
            mixed[0, n] = mix(u, corners[0, k], corners[1, k])
            mixed[1, n] = mix(u, corners[2, k], corners[3, k])
        for row in range(*rows):
            v = row_weights[row]
            best, largest = 0, mix(v, mixed[0, 0], mixed[1, 0])
            for n in range(1, count):
                value = mix(v, mixed[0, n], mixed[1, n])
                if value > largest:
                    best, largest = n, value
            ids[row, column] = rivals[best]


@compiled
def strip_scratch(width, classes):  # type: ignore[no-untyped-def]
    """What `fill_strip` works in."""
    corners, mixed = np.empty((4, classes), np.float32), np.empty((2, classes), np.float32)
    rivals, four = np.empty(2 * classes + 1, np.int32), np.empty(4, np.int32)
    return corners, mixed, rivals, four, np.empty(width, np.int32)


@compiled
def fill_strip(pixels, y, upper, lower, rows, row_weights, starts, column_weights, ids, scratch):  # type: ignore[no-untyped-def]
    """The ids [H W] of the rows between source row y and the next, whose pixels' largest classes [w] are known."""
    corners, mixed, rivals, four, borders = scratch
    width, below = len(upper), min(y + 1, pixels.shape[0] - 1)
    line = ids[rows[0]]
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
    for row in range(rows[0] + 1, rows[1]):
        ids[row] = line
    for border in range(count):
        x = borders[border]
        columns, beside = (starts[x], starts[x + 1]), min(x + 1, width - 1)
        fill_corners(pixels, y, below, x, beside, corners)
        four[0], four[1], four[2], four[3] = upper[x], upper[beside], lower[x], lower[beside]
        left = rivals_of(corners, four, rivals)
        fill_ids(corners, rivals, left, row_weights, column_weights, rows, columns, ids, mixed)


@compiled
def interpolate(logits, planes, row_starts, row_weights, starts, column_weights, ids, first, last):  # type: ignore[no-untyped-def]
    """Fills the ids [b H W] below source rows `first` to `last` of the logits.

    Cells between four equal classes are filled, the others interpolated.
    """
    pixels = logits.transpose(0, 2, 3, 1) if planes else logits.transpose(0, 1, 2, 3)
    batch, height, width, classes = pixels.shape
    upper, lower = np.empty(width, np.uint8), np.empty(width, np.uint8)
    largest, scratch = np.empty(width, np.float32), strip_scratch(width, classes)
    for b in range(batch):
        known = -1  # the source row that `lower` is of
        for y in range(first, last):
            rows = row_starts[y], row_starts[y + 1]
            if rows[0] == rows[1]:
                continue
            below = min(y + 1, height - 1)
            if known == y:
                upper, lower = lower, upper
            else:
                fill_tops(logits, planes, b, y, upper, largest)
            fill_tops(logits, planes, b, below, lower, largest)
            known = below
            fill_strip(pixels[b], y, upper, lower, rows, row_weights, starts, column_weights, ids[b], scratch)


@compiled
def argmax(logits, planes, ids, first, last):  # type: ignore[no-untyped-def]
    """The classes of the largest logits of some rows [b H W]."""
    width = logits.shape[3] if planes else logits.shape[2]
    tops, largest = np.empty(width, np.uint8), np.empty(width, np.float32)
    for b in range(len(logits)):
        for y in range(first, last):
            fill_tops(logits, planes, b, y, tops, largest)
            ids[b, y] = tops[: ids.shape[2]]


@compiled
def dequantize(logits, scale, zero_point, values, first, last):  # type: ignore[no-untyped-def]
    """Float values of some rows of integers [b h w k], each class by its own scale and zero point."""
    for b in range(logits.shape[0]):
        for y in range(first, last):
            for x in range(logits.shape[2]):
                for k in range(logits.shape[3]):
                    values[b, y, x, k] = (np.float32(logits[b, y, x, k]) - zero_point[k]) * scale[k]
