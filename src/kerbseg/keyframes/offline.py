"""Keyframes of a whole sequence at once, which serve better than those chosen frame by frame.

Both rules take as many keyframes as they are told, and measure distance along the sequence by accumulated motion.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from kerbseg.core.errors import InputError
from kerbseg.keyframes.scores import FrameScores, all_judged
from kerbseg.keyframes.selection import as_good_as, usefulness

NEAREST, FARTHEST = 0.4, 1.8
"""Gaps between keyframes, in mean steps."""

PERCENTILE = 95  # of the semantics: one frame full of the target would make all others look empty

LARGEST = 2 * 10**8
"""Frames times keyframes up to which all ways through a sequence are looked at (about 1 GB)."""

Values = Float[np.ndarray, " n"]


def positions(scores: Sequence[FrameScores]) -> Float64[np.ndarray, " n"]:
    """Where each frame is along the sequence: motion accumulated so far, in pixels; by time where nothing moves."""
    moved = np.cumsum([each.motion for each in scores], dtype=np.float64)
    if len(moved) and moved[-1] > 0:
        return moved
    return np.arange(len(scores), dtype=np.float64)


def dynamic_programming(scores: Sequence[FrameScores], count: int) -> list[int]:
    """The `count` frames with the greatest sum of usefulness whose gaps are 0.4 to 1.8 mean steps.

    Exact. Where no frames have such gaps (the view stands still, or jumps), the gaps may be wider until some have.
    Raises InputError for a sequence too long for it.
    """
    scores, count = all_judged(scores), _checked(scores, count)
    if count * len(scores) > LARGEST:
        raise InputError(f"{len(scores)} frames are too many for the rule dp with {count} keyframes; take coverage")
    sem = np.array([each.sem for each in scores])
    usual = float(np.percentile(sem, PERCENTILE)) or float(sem.max())
    quality = np.array([each.quality for each in scores])
    useful = usefulness(as_good_as(quality, quality.max()), sem, usual)
    place = positions(scores)
    step = (place[-1] - place[0]) / count
    nearest, farthest = NEAREST * step, FARTHEST * step
    for _ in range(10):
        chosen = best_path(useful, place, count, nearest, farthest)
        if chosen is not None:
            return chosen
        nearest, farthest = nearest / 2, farthest * 1.5
    chosen = best_path(useful, place, count, 0.0, float(np.inf))
    assert chosen is not None, "without limits there is always one"
    return chosen


def best_path(useful: Values, place: Values, count: int, nearest: float, farthest: float) -> list[int] | None:
    """The `count` places in order with the greatest sum, each `nearest` to `farthest` after the one before.

    The first and last are no farther than that from the ends. None where there are none.
    """
    n = len(useful)
    best = np.full((count, n), -np.inf)
    before = np.zeros((count, n), np.int32)
    begins = np.searchsorted(place, place - farthest, "left")
    ends = np.minimum(np.searchsorted(place, place - nearest, "right"), np.arange(n))
    best[0] = np.where(place - place[0] <= farthest, useful, -np.inf)
    for j in range(n):
        begin, end = int(begins[j]), int(ends[j])
        if begin < end and count > 1:
            at = begin + np.argmax(best[:-1, begin:end], 1)
            before[1:, j] = at
            best[1:, j] = useful[j] + best[np.arange(count - 1), at]
    last = np.where(place[-1] - place <= farthest, best[-1], -np.inf)
    j = int(np.argmax(last))
    if not np.isfinite(last[j]):
        return None
    path = [j]
    for k in range(count - 1, 0, -1):
        path.append(int(before[k, path[-1]]))
    return path[::-1]


def coverage(scores: Sequence[FrameScores], count: int) -> list[int]:
    """`count` frames that stand for all others: each frame is served by the best one near it (facility location).

    A frame weighs 0.25 + its semantics against the most; it is served by quality, less with distance. Taken greedily,
    which reaches 1 - 1/e of the best at least (Nemhauser et al., 1978).
    """
    scores, count = all_judged(scores), _checked(scores, count)
    quality = np.array([each.quality for each in scores])
    sem = np.array([each.sem for each in scores])
    place = positions(scores)
    weight = usefulness(np.ones(len(scores)), sem, float(sem.max()))
    scale = max(1e-9, (place[-1] - place[0]) / count / 2)
    served = np.zeros(len(scores))

    def gain(i: int) -> float:
        return float((weight * np.maximum(0, _service(i) - served)).sum())

    def _service(i: int) -> np.ndarray:
        service: np.ndarray = quality[i] * np.exp(-abs(place - place[i]) / scale)
        return service

    # a gain only shrinks as others are taken, so that the one on top, found to be the same still, is the largest
    waiting = [(-gain(i), i) for i in range(len(scores))]
    heapq.heapify(waiting)
    chosen: list[int] = []
    while len(chosen) < count:
        _, i = heapq.heappop(waiting)
        now = (-gain(i), i)
        if waiting and now > waiting[0]:
            heapq.heappush(waiting, now)
            continue
        chosen.append(i)
        served = np.maximum(served, _service(i))
    return sorted(chosen)


def _checked(scores: Sequence[FrameScores], count: int) -> int:
    if not scores:
        raise InputError("there is no frame to choose from; is the sequence empty?")
    if count < 1:
        raise InputError(f"{count} keyframes; ask for 1 at least")
    return min(count, len(scores))
