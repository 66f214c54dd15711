"""The instants at which a SLAM system took keyframes, so that the best frame near each can be taken instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerbseg.core.errors import DataError
from kerbseg.keyframes.sequences import LATEST, lines_of, nanoseconds_of


def read_times(path: Path) -> list[int]:
    """Nanoseconds of each line of a TUM trajectory, such as ORB-SLAM2's KeyFrameTrajectory.txt, or of a list of times.

    A whole number of 16 digits or more is in nanoseconds, as EuRoC's are; else a time is in seconds. Raises DataError
    for another file.
    """
    times = []
    for number, words in lines_of(path):
        if len(words) == 12:
            raise DataError(
                f"line {number} of {path} is a pose as KITTI has them, without a time; give a TUM trajectory"
            )
        first = words[0].rstrip(",")
        whole = first.isascii() and first.isdecimal() and len(first) >= 16
        if whole and not (len(first) <= 19 and int(first) < LATEST):
            raise DataError(f"line {number} of {path} begins with {first[:30]}, too large for nanoseconds; check it")
        times.append(int(first) if whole else nanoseconds_of(first, path, number))
    if not times:
        raise DataError(f"{path} holds no times; it is a trajectory with a time at the beginning of each line")
    return times


def nearest_frames(times_ns: Sequence[int], frames_ns: Sequence[int]) -> list[int | None]:
    """The frame nearest to each time; None where none is within half of the usual time between two frames."""
    frames = np.asarray(frames_ns, np.int64)
    if len(frames) < 2:
        return [0 if len(frames) else None for _ in times_ns]
    half = np.median(np.diff(frames)) / 2
    after = np.searchsorted(frames, np.asarray(times_ns, np.int64)).clip(1, len(frames) - 1)
    nearest = np.where(np.abs(frames[after] - times_ns) < np.abs(frames[after - 1] - times_ns), after, after - 1)
    pairs = zip(nearest, times_ns, strict=True)
    return [int(i) if abs(int(frames[i]) - time) <= half else None for i, time in pairs]
