"""How long calls take: warmed up, by turns, with the median and the 95th percentile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WARM_UP, RUNS, ROUND = 10, 100, 10


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call."""

    median_ms: float
    p95_ms: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """The figures of single timings."""
        median_ms, p95_ms = np.percentile(seconds, (50, 95)) * 1e3
        return cls(float(median_ms), float(p95_ms), len(seconds))

    def to_dict(self) -> dict[str, float]:
        """As JSON holds it."""
        return {"median": round(self.median_ms, 4), "p95": round(self.p95_ms, 4), "runs": self.runs}


@dataclass(frozen=True)
class LayerTime:
    """How long one operation takes."""

    name: str
    kind: str
    ms: float  # mean of one run


Batch = Callable[[int], Sequence[float]]  # seconds of so many calls


def timed(call: Callable[[], object]) -> Batch:
    """What times a call."""

    def batch(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds

    return batch


def interleaved(batches: Sequence[Batch], runs: int = RUNS, warm_up: int = WARM_UP) -> list[Latency]:
    """Latencies of several calls, by turns of ten, so that a change in the machine's pace touches all alike."""
    for batch in batches:
        batch(warm_up)
    seconds: list[list[float]] = [[] for _ in batches]
    while len(seconds[0]) < runs:
        count = min(ROUND, runs - len(seconds[0]))
        for batch, found in zip(batches, seconds, strict=True):
            batch(min(2, warm_up))  # the others have had the caches meanwhile
            found += batch(count)
    return [Latency.of(found) for found in seconds]
