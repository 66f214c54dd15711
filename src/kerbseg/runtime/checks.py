"""What every runtime refuses in the same words: pictures of another kind, and numbers of threads."""

from __future__ import annotations

import os

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, KerbsegError


def all_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checked_threads(threads: int | None) -> int:
    """The number asked for, or all. Raises KerbsegError for less than one."""
    if threads is not None and threads < 1:
        raise KerbsegError(f"threads is {threads}; give at least 1, or leave it out for all")
    return threads or all_threads()


def checked_pictures(
    pictures: UInt8[np.ndarray, "b h w 3"], size: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "b h w 3"]:
    """The pictures, contiguous. Raises InputError for another type, or another size than the only one."""
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise InputError(f"a runtime takes uint8 [b h w 3] RGB, not {pictures.dtype} {list(pictures.shape)}")
    if size is not None and pictures.shape[1:3] != size:
        given = "x".join(map(str, pictures.shape[1:3]))
        raise InputError(
            f"this file takes pictures of {size[0]}x{size[1]} (HxW), not {given}; resize them, or export for {given}"
        )
    return np.ascontiguousarray(pictures)
