"""Class ids at full size from logits at the network's own size, without ever making full-size ones.

Bilinear interpolation is a convex combination: where the four logits around a pixel have their maximum in the same
class, so has every mixture of them. Only pixels beside a border between classes are interpolated. The result is that
of interpolating all logits and taking the argmax, but for float rounding; of equal logits the first class wins.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from kerbseg.core.errors import BundleError, MissingExtra

try:
    from numba import njit
except ImportError as error:
    raise MissingExtra("numba", "export") from error

Ids = UInt8[np.ndarray, "b H W"]


class UpsampleArgmax:
    """Turns logits of one size into ids of another: `float32 [b h w k] -> uint8 [b H W]`.

    Classes lie side by side, as engines for processors hold them.
    The logits are interpolated to `padded` as torch does it, and cropped to `size` (height, width).
    """

    def __init__(
        self,
        logits: tuple[int, int],
        padded: tuple[int, int],
        align_corners: bool,
        size: tuple[int, int],
        threads: int = 1,
    ) -> None:
        if min(logits) < 1 or not all(1 <= n <= most for n, most in zip(size, padded, strict=True)):
            # ids beyond the padded picture would be whatever the memory held
            raise BundleError(
                f"logits {logits}, padded {padded} and picture {size} do not fit each other; export again"
            )
        self._same = logits == padded
        self._logits, self._size, self._threads = logits, size, threads
        self._rows = _places(logits[0], padded[0], align_corners)
        self._columns = _places(logits[1], padded[1], align_corners)
        self._seen = int(self._rows[0][size[0] - 1]) + 2  # rows of logits that matter to what is not cropped
        self._starts = np.minimum(_starts(self._columns[0], logits[1]), size[1])
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def __call__(self, logits: Float32[np.ndarray, "b h w k"]) -> Ids:
        """The ids; rows are shared out among the threads."""
        logits = np.ascontiguousarray(logits)
        batch, height, width, _ = logits.shape
        if (height, width) != self._logits:
            raise BundleError(f"the graph gives logits of {(height, width)}, after {self._logits} before; export again")
        tops = np.empty((batch, height, width), np.uint8)
        self._in_bands(_argmax, min(height, self._seen), logits, tops)
        if self._same:
            return tops[:, : self._size[0], : self._size[1]]
        ids = np.empty((batch, *self._size), np.uint8)
        self._in_bands(_interpolate, self._size[0], logits, tops, *self._rows, *self._columns, self._starts, ids)
        return ids

    def _in_bands(self, kernel: Any, rows: int, *arrays: Any) -> None:
        """Runs a kernel over all rows, each thread a band of them."""
        bounds = [rows * i // self._threads for i in range(self._threads + 1)]
        others: list[Future[None]] = []
        if self._pool is not None:
            others = [self._pool.submit(partial(kernel, *arrays, first, last)) for first, last in pairwise(bounds[1:])]
        kernel(*arrays, bounds[0], bounds[1])
        for other in others:
            other.result()


def _places(source: int, target: int, align_corners: bool) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """For each target position: the source position before it, and the weight of the one after it, as in torch."""
    at = np.arange(target, dtype=np.float32)
    if align_corners:
        scale = np.float32((source - 1) / (target - 1)) if target > 1 else np.float32(0)
        place = at * scale
    else:
        place = np.maximum((at + np.float32(0.5)) * np.float32(source / target) - np.float32(0.5), 0)
    before = np.minimum(place.astype(np.int32), source - 1)
    weight = (place - before).astype(np.float32)
    weight[before == source - 1] = 0
    return before, weight


def _starts(before: Int32[np.ndarray, " n"], source: int) -> Int32[np.ndarray, " m"]:
    """The first target column of each source column, and the end."""
    return np.searchsorted(before, np.arange(source + 1)).astype(np.int32)


def compiled(kernel: Callable[..., Any]) -> Any:
    """The kernel as machine code, kept for the next process where numba has a folder for it.

    Where it has none (a read-only installation, no home) each process compiles anew, which takes some seconds.
    """
    try:
        return njit(nogil=True, cache=True)(kernel)
    except RuntimeError:
        return njit(nogil=True)(kernel)


@compiled
def _argmax(logits, tops, first, last):  # type: ignore[no-untyped-def] # numba's own types
    """The class of the largest logit of each pixel, in some rows."""
    batch, _, width, classes = logits.shape
    for b in range(batch):
        for y in range(first, last):
            for x in range(width):
                tops[b, y, x] = _first_of_largest(logits[b, y, x], classes)


@compiled
def _first_of_largest(row, classes):  # type: ignore[no-untyped-def]
    """Where the largest value stands first: the value in wide registers, then its place."""
    largest = row[0]
    for k in range(1, classes):
        largest = row[k] if row[k] > largest else largest
    for k in range(classes):
        if row[k] == largest:
            return k
    return 0  # nothing is equal to NaN


@compiled
def _interpolate(logits, tops, rows, row_weights, columns, column_weights, starts, ids, first, last):  # type: ignore[no-untyped-def]
    """Ids of some rows: cells between four equal classes are filled, the others interpolated."""
    batch, height, width, classes = logits.shape
    left = np.empty(classes, np.float32)
    right = np.empty(classes, np.float32)
    mixed = np.empty(classes, np.float32)
    for b in range(batch):
        for out in range(first, last):
            y = rows[out]
            below = min(y + 1, height - 1)
            v = row_weights[out]
            upper, lower, line = tops[b, y], tops[b, below], ids[b, out]
            for x in range(width):
                if starts[x] == starts[x + 1]:
                    continue
                beside = min(x + 1, width - 1)
                top = upper[x]
                if top == upper[beside] and top == lower[x] and top == lower[beside]:
                    for column in range(starts[x], starts[x + 1]):
                        line[column] = top
                    continue
                for k in range(classes):
                    left[k] = (1 - v) * logits[b, y, x, k] + v * logits[b, below, x, k]
                    right[k] = (1 - v) * logits[b, y, beside, k] + v * logits[b, below, beside, k]
                for column in range(starts[x], starts[x + 1]):
                    u = column_weights[column]
                    for k in range(classes):
                        mixed[k] = (1 - u) * left[k] + u * right[k]
                    line[column] = _first_of_largest(mixed, classes)
