"""Class ids as runs of one value each, row after row: a street is some thousand runs, not a hundred thousand pixels."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8, UInt32

from kerbseg.core.errors import DataError


def encode_runs(ids: UInt8[np.ndarray, "h w"]) -> tuple[UInt8[np.ndarray, " n"], UInt32[np.ndarray, " n"]]:
    """The value of each run and how many pixels it has; `np.repeat(values, lengths).reshape(h, w)` are the ids."""
    flat = ids.reshape(-1)
    first = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    return flat[starts], np.diff(starts, append=flat.size).astype(np.uint32)


def decode_runs(
    values: UInt8[np.ndarray, " n"], lengths: UInt32[np.ndarray, " n"], size: tuple[int, int]
) -> UInt8[np.ndarray, "h w"]:
    """The ids of runs, of (height, width). Raises DataError where the runs are not of as many pixels."""
    pixels, (height, width) = int(lengths.sum(dtype=np.int64)), size
    if pixels != height * width:
        raise DataError(f"the runs have {pixels} pixels, and {height}x{width} are {height * width}; is the row whole?")
    return np.repeat(values, lengths).reshape(size)
