"""What every runtime refuses in the same words: pictures of another kind, and numbers of threads."""

from __future__ import annotations

import math
import os
from numbers import Integral
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, KerbsegError, did_you_mean
from kerbseg.core.limits import MOST_THREADS
from kerbseg.runtime.protocols import ConfidenceDtype, ConfidenceMeasure


def all_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: int | None) -> int:
    """The number asked for, or all. Raises KerbsegError for less than one, and for more than a system gives."""
    if threads is not None and not (isinstance(threads, Integral) and 1 <= threads <= MOST_THREADS):
        raise KerbsegError(
            f"threads is {threads!r}; give at least 1 and at most {MOST_THREADS}, or leave it out for all"
        )
    return threads or all_threads()


def checked_measure(measure: str, dtype: str = "float32") -> None:
    """Raises InputError for words that name no confidence."""
    for what, word, known in (
        ("measure", measure, get_args(ConfidenceMeasure)),
        ("dtype", dtype, get_args(ConfidenceDtype)),
    ):
        if word not in known:
            raise InputError(f"{what} is {word!r}; {did_you_mean(str(word), known)}")


class PictureCheck:
    """Every call of a runtime begins here: it returns the pictures, contiguous.

    Raises InputError for another type, or another size than the only one, and KerbsegError in a process that was forked
    after the runtime was opened: engines and torch keep threads, which a fork does not take along, and would wait for
    them for ever.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size, self._process = size, os.getpid()

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w 3"]:
        if os.getpid() != self._process:
            raise KerbsegError("this runtime was opened before a fork, which its threads do not outlive; open it after")
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8 or not pictures.size:
            raise InputError(f"a runtime takes uint8 [b h w 3] RGB, not {pictures.dtype} {list(pictures.shape)}")
        if self._size is not None and pictures.shape[1:3] != self._size:
            given, own = ("x".join(map(str, each)) for each in (pictures.shape[1:3], self._size))
            raise InputError(
                f"this file takes pictures of {own} (HxW), not {given}; resize them, or export for {given}"
            )
        return np.ascontiguousarray(pictures)

    def __reduce__(self) -> tuple[type[PictureCheck], tuple[tuple[int, int] | None]]:
        """A copy belongs to the process that makes it."""
        return PictureCheck, (self._size,)


def check_finite(values: Any) -> None:
    """Raises KerbsegError where logits, an array or a tensor, are not all finite: NaN would become some class."""
    # infinite values and NaN outlive a sum, which costs less than to look at each; a sum may also overflow by itself
    if not math.isfinite(values.sum()) and not np.isfinite(np.asarray(values)).all():
        raise KerbsegError(
            "the network gives logits that are NaN or infinite: its weights are damaged, or too large for this"
            " precision; train or export it again, or choose float32"
        )
