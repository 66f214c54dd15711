"""Class ids at full size from logits at the network's own size, without ever making full-size ones.

Bilinear interpolation is a convex combination: where the four logits around a pixel have their maximum in the same
class, so has every mixture of them. Only pixels beside a border between classes are interpolated. The result is that
of interpolating all logits and taking the argmax, as torch does it; of equal logits the first class wins.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import count, pairwise
from numbers import Integral, Real
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from kerbseg.core.errors import BundleError, InputError, MissingExtra
from kerbseg.runtime.checks import checked_measure, checked_threads
from kerbseg.runtime.protocols import ConfidenceDtype, ConfidenceMeasure
from kerbseg.runtime.upsample_numpy import upsampled_ids

if find_spec("numba") is None:  # it is imported where it pays: at a process's second call
    raise MissingExtra("numba", "export")

Logits = Float32[np.ndarray, "b h w k"] | UInt8[np.ndarray, "b h w k"]
Ids = UInt8[np.ndarray, "b H W"]
Confidence = Float32[np.ndarray, "b H W"] | UInt8[np.ndarray, "b H W"]
MOST_CLASSES = 256  # that an id of 8 bits can tell
MOST_LANES = 32  # of the register of `byte_argmax`, and so classes of a pixel
LONGEST_SIDE = 2**24  # of ids, in pixels: a float32 tells no more of them apart
Coordinates = Literal["half_pixel", "align_corners", "asymmetric"]  # as ONNX's Resize calls them


def upsample_argmax(
    logits: Any,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    confidence: bool | ConfidenceMeasure = False,
    threads: int | None = None,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    coordinates: Coordinates | None = None,
    scale: float | Sequence[float] | None = None,
    zero_point: int | Sequence[int] = 0,
    temperature: float = 1.0,
    dtype: ConfidenceDtype = "float32",
) -> Ids | tuple[Ids, Confidence]:
    """Class ids at full size: those of bilinear interpolation and argmax, many times faster, of any network's logits.

    Where the four logits around a pixel have their maximum in one class c, each of them is at least as large in c as in
    any other class. Interpolated logits are a sum of the four with weights that are not negative, so c is the largest
    there too, and nothing needs to be computed; rounding keeps the order of numbers, so this holds in floats as well.
    Only pixels beside a border between classes are interpolated. This is true for larger and smaller sizes, since
    torch takes four neighbors for both, and for each of the three rules of coordinates.

    Of equal logits the first class wins, as in `numpy.argmax`. Sums are rounded as torch rounds them for contiguous
    NCHW tensors, so that ids are those of `torch.nn.functional.interpolate(logits, size, mode="bilinear").argmax(1)`.
    Safe from any number of threads. torch is not imported. The first call of a process is numpy's; the second loads
    machine code, which is compiled once on a machine, for some seconds.

    Parameters
    ----------
    logits : array or tensor [b k h w], or [k h w] of one picture
        float32, float16 or uint8, of 1 to 256 classes; numpy's, torch's or what else numpy can read. float16 is
        interpolated in float32.
    size : (height, width)
        Of the ids, in pixels.
    align_corners : bool
        As in torch: corner pixels lie on corner logits.
    confidence : bool, or "probability", "entropy" or "margin"
        Also returns how sure each id is, 0 to 1. True is "probability": the softmax of the interpolated logits, to
        1e-6. "entropy" is 1 - entropy / log(classes), "margin" how far the probability is above the second one.
    threads : int, optional
        All processors of this process where left out.
    layout : "NCHW" or "NHWC"
        Order of the logits' axes; "NHWC" is [b h w k] or [h w k]. Views of either cost no copy.
    coordinates : "half_pixel", "align_corners" or "asymmetric", optional
        As ONNX names the rules; without a word `align_corners` decides. "asymmetric" is that of older TensorFlow.
    scale, zero_point : number, or one for each class
        Of uint8 logits, which mean `scale * (q - zero_point)`.
    temperature : float
        The confidence is that of logits divided by it. It changes no id.
    dtype : "float32" or "uint8"
        Of the confidence. uint8 is 255 times it, rounded, in less time.

    Returns
    -------
    ids : uint8 [b H W], or [H W] of one picture
    confidence : float32 or uint8 of the same shape, where asked for

    Raises
    ------
    InputError
        Where logits hold NaN or infinite values, or where a shape, type or option is none of these.
    """
    pixels, single = _pixels(logits, layout)
    if coordinates is not None and align_corners and coordinates != "align_corners":
        raise InputError(f"align_corners contradicts coordinates={coordinates!r}; leave one of them out")
    if not (isinstance(size, Sequence) and len(size) == 2 and all(isinstance(n, Integral) for n in size)):
        raise InputError(f"size is {size!r}; give (height, width) in pixels")
    if not all(1 <= n <= LONGEST_SIDE for n in size):
        raise InputError(f"size is {size!r}; give (height, width) of 1 to {LONGEST_SIDE:,} pixels each")
    if not (isinstance(temperature, Real) and 0 < temperature < math.inf):
        raise InputError(f"temperature is {temperature!r}; give a positive number")
    if pixels.dtype == np.uint8:
        if confidence and scale is None:
            raise InputError("the confidence of uint8 logits needs their scale; give scale=")
    elif scale is not None or np.any(zero_point):
        raise InputError(f"scale and zero_point are of uint8 logits, not of {pixels.dtype}; leave them out")
    height, width = (int(n) for n in size)
    stage = UpsampleArgmax(
        pixels.shape[1:3],
        (height, width),
        align_corners,
        (height, width),
        checked_threads(threads),
        coordinates=coordinates,
        scale=scale,
        zero_point=zero_point,
    )
    if not confidence:
        ids = stage(pixels)
        return ids[0] if single else ids
    measure = "probability" if confidence is True else confidence
    ids, sure = stage.with_confidence(pixels, float(temperature), measure=measure, dtype=dtype)
    return (ids[0], sure[0]) if single else (ids, sure)


def _pixels(logits: Any, layout: str) -> tuple[Logits, bool]:
    """Logits as [b h w k], without a copy where they are no float16, and whether they are of one picture."""
    if layout not in ("NCHW", "NHWC"):
        raise InputError(f"layout is {layout!r}; choose NCHW or NHWC")
    if hasattr(logits, "detach"):  # a tensor of torch, which is not imported for its sake
        if "strided" not in str(logits.layout) or logits.device.type == "meta":
            raise InputError(f"logits are a tensor of {logits.layout} on {logits.device}; give a dense one with values")
        logits = logits.detach().cpu().resolve_conj().resolve_neg()
        logits = (logits.float() if "bfloat16" in str(logits.dtype) else logits).numpy()
    try:
        array = np.asarray(logits)
    except (TypeError, ValueError) as error:
        raise InputError(f"logits are no array ({error}); give float32, float16 or uint8") from error
    if array.dtype.name not in ("float32", "float16", "uint8"):
        raise InputError(f"logits are {array.dtype}; give float32, float16 or uint8")
    if array.ndim not in (3, 4) or not array.size:
        raise InputError(f"logits are {list(array.shape)}; give [b k h w], or [k h w] of one picture, not empty")
    single = array.ndim == 3
    array = array[None] if single else array
    array = array.transpose(0, 2, 3, 1) if layout == "NCHW" else array
    if array.shape[3] > MOST_CLASSES:
        raise InputError(
            f"logits have {array.shape[3]} classes, ids of 8 bits tell {MOST_CLASSES}; is layout={layout!r} right?"
        )
    if array.dtype != np.uint8:
        array = array.astype(np.float32, copy=False)  # also of the other byte order
        # infinite values and NaN outlive a sum, which costs less than to look at each; a sum may also overflow
        with np.errstate(over="ignore", invalid="ignore"):
            total = array.sum()
        if not math.isfinite(total) and not np.isfinite(array).all():
            raise InputError(
                "logits hold NaN or infinite values, which have no class; see where the network makes them"
            )
    return array, single


class UpsampleArgmax:
    """Turns logits of one size into ids of another: `float32 or uint8 [b h w k] -> uint8 [b H W]`.

    The logits may be views: those of contiguous [b k h w] cost no copy either.
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
        self._columns, self._column_weights = _places(logits[1], padded[1], coordinates)
        self._row_starts = np.minimum(_starts(rows, logits[0]), size[0])
        self._starts = np.minimum(_starts(self._columns, logits[1]), size[1])
        self._scale, self._zero_point = _per_class(scale, zero_point)
        self._ranges = np.size(1 if scale is None else scale), np.size(zero_point)
        self._factor = 1.0 if scale is None or self._scale is not None else float(np.ravel(scale)[0])

    def __call__(self, logits: Logits) -> Ids:
        """The ids; rows are shared out among the threads."""
        if _is_first_without_kernels():
            places = self._row_starts, self._row_weights, self._starts, self._column_weights
            return upsampled_ids(self._comparable(logits, in_numpy=True), *places, self._size)
        return self._ids(*_in_one_piece(self._comparable(logits)))

    def with_confidence(
        self,
        logits: Logits,
        temperature: float = 1.0,
        *,
        measure: ConfidenceMeasure = "probability",
        dtype: ConfidenceDtype = "float32",
    ) -> tuple[Ids, Confidence]:
        """The ids, and how sure each is, of its pixel's interpolated logits divided by the temperature.

        The measure is the softmax ("probability"), 1 - entropy / log(classes) ("entropy"), or how much the probability
        is above that of the second class ("margin"). float32 is within 1e-6 of what float64 gives (entropy: 1e-5);
        "uint8" is 255 times that, to 0.52, in a third of the time: pixels that are certain cost next to nothing.
        Ids are those without confidence.
        """
        checked_measure(measure, dtype)
        logits, planes = _in_one_piece(self._comparable(logits))
        classes = logits.shape[1 if planes else 3]
        ids = np.empty((len(logits), *self._size), np.uint8)
        confidence = np.empty(ids.shape, dtype)
        if measure == "entropy" and classes == 1:  # which tells nothing, and has the logarithm 0
            measure = "probability"
        limits = _limits(measure, dtype, classes)
        places = self._row_starts, self._row_weights, self._starts, self._columns, self._column_weights
        how = self._factor / temperature, get_args(ConfidenceMeasure).index(measure), *limits
        confident = import_module(CONFIDENCE_KERNEL).confident
        self._in_bands(self._logits[0], confident, logits, planes, *places, *how, ids, confidence)
        return ids, confidence

    def _ids(self, logits: np.ndarray, planes: bool) -> Ids:
        ids = np.empty((len(logits), *self._size), np.uint8)
        if self._same and not planes and logits.dtype == np.uint8 and logits.shape[3] <= MOST_LANES:
            byte_argmax = import_module(BYTE_KERNEL).byte_argmax
            self._in_bands(self._size[0], byte_argmax, logits.reshape(-1), np.array(logits.shape[1:]), ids)
        elif self._same:
            self._in_bands(self._size[0], _kernels().argmax, logits, planes, ids)
        else:
            places = self._row_starts, self._row_weights, self._starts, self._column_weights
            self._in_bands(self._logits[0], _kernels().interpolate, logits, planes, *places, ids)
        return ids

    def _comparable(self, logits: np.ndarray, in_numpy: bool = False) -> np.ndarray:
        """Logits whose order is theirs: floats where each class has a range of its own; one range changes no order.

        Raises BundleError where they are of another size.
        """
        inner = logits.shape[1:3]
        if inner != self._logits:
            raise BundleError(f"the graph gives logits of {inner}, after {self._logits} before; export again")
        classes = logits.shape[3]
        if not set(self._ranges) <= {1, classes}:
            scales, zero_points = self._ranges
            raise BundleError(
                f"{scales} scales and {zero_points} zero points for {classes} classes; give one, or one for each class"
            )
        if self._scale is None:
            return logits
        scale, zero_point = (np.broadcast_to(each, classes).copy() for each in (self._scale, self._zero_point))
        if in_numpy:
            return (logits.astype(np.float32) - zero_point) * scale
        values = np.empty(logits.shape, np.float32)
        self._in_bands(self._logits[0], _kernels().dequantize, logits, scale, zero_point, values)
        return values

    def _in_bands(self, rows: int, kernel: Callable[..., None], *arrays: Any) -> None:
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


KERNELS, BYTE_KERNEL = "kerbseg.runtime.upsample_kernels", "kerbseg.runtime.byte_argmax"
CONFIDENCE_KERNEL = "kerbseg.runtime.confidence_kernels"
_calls_without = count()


def _is_first_without_kernels() -> bool:
    """Whether machine code is not loaded yet, and nobody has asked before."""
    return KERNELS not in sys.modules and next(_calls_without) == 0


def _kernels() -> ModuleType:
    """The machine code, which numba loads or compiles."""
    return import_module(KERNELS)


def _in_one_piece(logits: np.ndarray) -> tuple[np.ndarray, bool]:
    """Logits [b h w k] as they lie in memory, and whether that is [b k h w]."""
    planes = not logits.flags.c_contiguous and logits.strides[3] > logits.strides[2]
    logits = np.ascontiguousarray(logits.transpose(0, 3, 1, 2) if planes else logits).view()
    logits.flags.writeable = False  # of arrays that may be written, and that may not, numba would make two kernels
    return logits, planes


@lru_cache(4)
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """Threads of this process: those from before a fork are not there after it."""
    return ThreadPoolExecutor(workers)


def _per_class(
    scale: float | Sequence[float] | None, zero_point: int | Sequence[int]
) -> tuple[Float32[np.ndarray, " _"] | None, Float32[np.ndarray, " _"]]:
    """Scales and zero points of the classes, one for all or one each; no scale where one range serves them all."""
    try:
        scales = np.atleast_1d(np.asarray(1.0 if scale is None else scale, np.float32))
        zero_points = np.atleast_1d(np.asarray(zero_point, np.float32))
    except (TypeError, ValueError) as error:
        raise BundleError(f"logits have the scale {scale!r} and the zero point {zero_point!r}; give numbers") from error
    if not (scales.size and zero_points.size and np.isfinite(zero_points).all()):
        raise BundleError(f"logits have the scale {scale!r} and the zero point {zero_point!r}; give finite numbers")
    if scales.ndim != 1 or zero_points.ndim != 1 or not (np.isfinite(scales).all() and (scales > 0).all()):
        raise BundleError(f"logits have the scale {scale}; give a positive number, or one for each class")
    one_for_all = (scales == scales[0]).all() and (zero_points == zero_points[0]).all()
    return (None if one_for_all else scales), zero_points


def _limits(
    measure: ConfidenceMeasure, dtype: ConfidenceDtype, classes: int
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    """What `confident` takes for certain, negligible and coarse, and the scale of what it writes."""
    if dtype == "float32":
        return np.float32(2.0**-26), np.float32(-math.log(classes * 1e8)), np.float32(-8), np.float32(1)
    # of bytes 254.5 and more are 255; a margin is below its probability by what another class has
    certain = 0.00196 if measure == "probability" else 0.00098
    if measure == "entropy":  # at most h(x) + x log(k - 1) of log(k) where all other classes have x
        certain = 0.5 / 255 * math.log(classes) / (math.log(classes) + 12)
    return np.float32(certain), np.float32(-math.log(classes * 5e4)), np.float32(-60), np.float32(255)


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
