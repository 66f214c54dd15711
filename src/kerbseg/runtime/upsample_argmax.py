"""Class ids at full size from logits at the network's own size, without ever making full-size ones.

Bilinear interpolation is a convex combination: where the four logits around a pixel have their maximum in the same
class, so has every mixture of them. Only pixels beside a border between classes are interpolated. The result is that
of interpolating all logits and taking the argmax, as torch does it; of equal logits the first class wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count, pairwise
from types import ModuleType
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from kerbseg.core.errors import BundleError, MissingExtra
from kerbseg.runtime.upsample_numpy import upsampled_ids

if find_spec("numba") is None:  # it is imported where it pays: at a process's second call
    raise MissingExtra("numba", "export")

Ids = UInt8[np.ndarray, "b H W"]
Coordinates = Literal["half_pixel", "align_corners", "asymmetric"]  # as ONNX's Resize calls them


class UpsampleArgmax:
    """Turns logits of one size into ids of another: `float32 or uint8 [b h w k] -> uint8 [b H W]`.

    The logits may have any strides; fastest is where the classes of a pixel lie side by side.
    They are interpolated to `padded` as torch does it, and cropped to `size` (height, width). `coordinates` says which
    place in the logits a pixel has; without a word it follows `align_corners`. Logits of integers mean
    `scale * (q - zero_point)`, with one scale and zero point, or one for each class. Safe from any number of threads.

    The first call of a process is numpy's: machine code comes from numba, which takes longer to import than one picture
    takes, and compiles for seconds where its cache is empty.

    Raises BundleError where the sizes, scales or coordinates do not fit each other.
    """

    def __init__(
        self,
        logits: tuple[int, int],
        padded: tuple[int, int],
        align_corners: bool,
        size: tuple[int, int],
        threads: int = 1,
        *,
        coordinates: Coordinates | None = None,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
    ) -> None:
        if min(logits) < 1 or not all(1 <= n <= most for n, most in zip(size, padded, strict=True)):
            # ids beyond the padded picture would be whatever the memory held
            raise BundleError(
                f"logits {logits}, padded {padded} and picture {size} do not fit each other; export again"
            )
        if coordinates is None:
            coordinates = "align_corners" if align_corners else "half_pixel"
        elif coordinates not in get_args(Coordinates):
            raise BundleError(f"coordinates are {coordinates!r}; choose from: {', '.join(get_args(Coordinates))}")
        self._same = logits == padded
        self._logits, self._size, self._threads = logits, size, threads
        rows, self._row_weights = _places(logits[0], padded[0], coordinates)
        columns, self._column_weights = _places(logits[1], padded[1], coordinates)
        self._row_starts = np.minimum(_starts(rows, logits[0]), size[0])
        self._starts = np.minimum(_starts(columns, logits[1]), size[1])
        self._scale, self._zero_point = _per_class(scale, zero_point)

    def __call__(self, logits: Float32[np.ndarray, "b h w k"] | UInt8[np.ndarray, "b h w k"]) -> Ids:
        """The ids; rows are shared out among the threads."""
        if logits.shape[1:3] != self._logits:
            raise BundleError(
                f"the graph gives logits of {logits.shape[1:3]}, after {self._logits} before; export again"
            )
        if _is_first_without_kernels():
            values = logits if self._scale is None else (logits.astype(np.float32) - self._zero_point) * self._scale
            places = self._row_starts, self._row_weights, self._starts, self._column_weights
            return upsampled_ids(values, *places, self._size)
        logits = self._comparable(logits)
        ids = np.empty((len(logits), *self._size), np.uint8)
        if self._same:
            self._in_bands(self._size[0], _kernels().argmax, logits, ids)
        else:
            places = self._row_starts, self._row_weights, self._starts, self._column_weights
            self._in_bands(self._logits[0], _kernels().interpolate, logits, *places, ids)
        return ids

    def _comparable(self, logits: np.ndarray) -> np.ndarray:
        """Logits whose order is theirs: floats where each class has a range of its own; one range changes no order."""
        if self._scale is None:
            return logits
        classes = logits.shape[3]
        if not {self._scale.size, self._zero_point.size} <= {1, classes}:
            raise BundleError(
                f"{self._scale.size} scales and {self._zero_point.size} zero points for {classes} classes; give one, or"
                " one for each class"
            )
        scale, zero_point = (np.broadcast_to(each, classes).copy() for each in (self._scale, self._zero_point))
        values = np.empty(logits.shape, np.float32)
        self._in_bands(self._logits[0], _kernels().dequantize, logits, scale, zero_point, values)
        return values

    def _in_bands(self, rows: int, kernel: Callable[..., None], *arrays: np.ndarray) -> None:
        """Runs a kernel over all rows, each thread a band of them."""
        bands = min(self._threads, rows)
        bounds = [rows * i // bands for i in range(bands + 1)]
        others: list[Future[None]] = []
        if bands > 1:
            pool = _pool(self._threads - 1, os.getpid())
            others = [pool.submit(partial(kernel, *arrays, first, last)) for first, last in pairwise(bounds[1:])]
        kernel(*arrays, bounds[0], bounds[1])
        for other in others:
            other.result()


KERNELS = "kerbseg.runtime.upsample_kernels"
_calls_without = count()


def _is_first_without_kernels() -> bool:
    """Whether machine code is not loaded yet, and nobody has asked before."""
    return KERNELS not in sys.modules and next(_calls_without) == 0


def _kernels() -> ModuleType:
    """The machine code, which numba loads or compiles."""
    return import_module(KERNELS)


@lru_cache(4)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: those from before a fork are not there after it."""
    return ThreadPoolExecutor(workers)


def _per_class(
    scale: float | Sequence[float] | None, zero_point: int | Sequence[int]
) -> tuple[Float32[np.ndarray, " _"] | None, Float32[np.ndarray, " _"]]:
    """Scales and zero points of the classes, one for all or one each; no scale where one range serves them all."""
    scales = np.atleast_1d(np.asarray(1.0 if scale is None else scale, np.float32))
    zero_points = np.atleast_1d(np.asarray(zero_point, np.float32))
    if scales.ndim != 1 or zero_points.ndim != 1 or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise BundleError(f"logits have the scale {scale}; give a positive number, or one for each class")
    one_for_all = (scales == scales[0]).all() and (zero_points == zero_points[0]).all()
    return (None if one_for_all else scales), zero_points


def _places(
    source: int, target: int, coordinates: Coordinates
) -> tuple[Int32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
    """For each target position: the source position before it, and the weight of the one after it, as in torch.

    torch computes in float32, but rounds only once where it multiplies and adds.
    """
    at = np.arange(target, dtype=np.float64)
    if source == target:
        place = at
    elif coordinates == "align_corners":
        place = at * (np.float32((source - 1) / (target - 1)) if target > 1 else 0)
    else:
        scale = np.float64(np.float32(source / target))
        place = at * scale if coordinates == "asymmetric" else np.maximum((at + 0.5) * scale - 0.5, 0)
    rounded = place.astype(np.float32)
    before = np.minimum(rounded.astype(np.int32), source - 1)
    return before, np.minimum(rounded - before.astype(np.float32), 1).astype(np.float32)


def _starts(before: Int32[np.ndarray, " n"], source: int) -> Int32[np.ndarray, " m"]:
    """The first target position of each source position, and the end."""
    return np.searchsorted(before, np.arange(source + 1)).astype(np.int32)
