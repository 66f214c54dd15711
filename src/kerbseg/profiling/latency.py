"""How long calls take: warmed up, by turns, until a time is spent, with the median and the 95th percentile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted

SECONDS = 10.0  # of timing, where nothing else is asked for
DAY = 86_400  # seconds
WARM_UP, TURN = 10, 10  # calls
FEWEST = 3  # runs of each, however little time there is
TURNS = 10  # that each call gets at least, where the time suffices


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
class Skipped:
    """A figure that was not taken."""

    reason: str  # and what to do about it

    def __str__(self) -> str:
        return f"not measured: {self.reason}"


@dataclass(frozen=True)
class Budget:
    """When timing ends: after so many seconds for all calls together, after so many runs of each, or the first of both.

    Without either it is ten seconds; `runs` without seconds is an exact number, and 0 of them means not to time at all.
    Slow calls are run three times each even where that takes longer.
    """

    seconds: float | None = None
    runs: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds <= DAY:
            raise KerbsegError(
                f"seconds is {self.seconds}; give a time above 0 and at most {DAY} (a day), or leave it out for"
                f" {SECONDS:g}"
            )
        if self.runs is not None and self.runs < 0:
            raise KerbsegError(f"runs is {self.runs}; give at least 1, or 0 to count only")

    @property
    def limit_s(self) -> float:
        """Seconds after which nothing is begun."""
        if self.seconds is None:
            return SECONDS if self.runs is None else math.inf
        return self.seconds

    @property
    def most_runs(self) -> float:
        """Of each call."""
        return math.inf if self.runs is None else self.runs

    def __str__(self) -> str:
        if self.runs is None:
            return f"{self.limit_s:g} s"
        runs = f"{counted(self.runs, 'run')} each"
        return runs if self.seconds is None else f"{runs}, {self.seconds:g} s at most"


Batch = Callable[[int], Sequence[float]]  # seconds of so many calls


def timed(call: Callable[[], object], synchronize: Callable[[], object] | None = None) -> Batch:
    """What times a call; `synchronize` waits until its device is done, where a call returns before that."""

    def batch(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            if synchronize is not None:
                synchronize()
            seconds.append(time.perf_counter() - start)
        return seconds

    return batch


def interleaved(batches: Sequence[Batch], budget: Budget | None = None, warm_up: int = WARM_UP) -> list[Latency]:
    """Latencies of several calls, by turns of ten, so that a change in the machine's pace touches all alike.

    Where ten calls would take more than a tenth of its share of the time, a turn has fewer.
    """
    budget = budget or Budget()
    begun = time.perf_counter()
    share_s = budget.limit_s / len(batches)
    last_s = [_warmed(batch, warm_up, share_s / TURNS) for batch in batches]
    turns = [max(1, min(TURN, _whole(share_s / TURNS, each_s))) for each_s in last_s]
    timings: list[list[float]] = [[] for _ in batches]
    while min(map(len, timings)) < budget.most_runs:
        round_begun = time.perf_counter()
        for batch, turn, seconds in zip(batches, turns, timings, strict=True):
            if (runs := int(min(turn, budget.most_runs - len(seconds)))) > 0:
                batch(min(2, warm_up, turn - 1))  # the others have had the caches meanwhile
                seconds += batch(runs)
        now = time.perf_counter()
        enough = min(map(len, timings)) >= FEWEST
        if enough and now - begun + (now - round_begun) > budget.limit_s:
            break
    return [Latency.of(seconds) for seconds in timings]


def _warmed(batch: Batch, calls: int, limit_s: float) -> float:
    """Seconds of the last of so many calls; of an earlier one where they take longer than `limit_s` together."""
    end = time.perf_counter() + limit_s
    for left in reversed(range(max(1, calls))):
        (seconds,) = batch(1)
        if left and time.perf_counter() > end:
            break
    return seconds


def _whole(limit_s: float, each_s: float) -> int:
    return TURN if limit_s >= TURN * each_s else int(limit_s / each_s)
