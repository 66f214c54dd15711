"""Pictures that wait to be segmented: a queue that does not grow beyond its limit, and gives them out in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.predict import Prediction


@dataclass(eq=False)
class Job:
    """One picture: how it is read, and what is made of its prediction, both in the thread that segments it."""

    model: str
    read: Callable[[], UInt8[np.ndarray, "h w 3"]]
    finish: Callable[[Prediction], Any]
    confidence: bool = False
    came_s: float = field(default_factory=time.monotonic)
    future: Future[Any] = field(default_factory=Future)  # what `finish` gave; cancelled when nobody waits any more

    def is_like(self, other: Job) -> bool:
        """Whether both can share a call of a network."""
        return (self.model, self.confidence) == (other.model, other.confidence)


class Full(Exception):  # as queue.Full
    """There is no room for so many more."""


class JobQueue:
    """Jobs in the order in which they came; safe from any number of threads.

    `batch` says how many pictures a model takes at once, `wait_s` how long after its coming the first of them may wait
    for others.
    """

    def __init__(
        self,
        limit: int,
        batch: Callable[[str], int] = lambda model: 1,
        wait_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._batch, self._wait_s, self._clock = batch, wait_s, clock
        self._waiting: deque[Job] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, jobs: Sequence[Job]) -> None:
        """All of them, or none: raises Full where there is no room, or the queue is closed."""
        with self._changed:
            if self._closed or len(self._waiting) + len(jobs) > self.limit:
                raise Full
            self._waiting.extend(jobs)
            self._changed.notify_all()

    def take(self) -> list[Job]:
        """The first job, with others that can share its call; waits for one. None are left where there are none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            jobs = [self._waiting.popleft()]
            until_s = jobs[0].came_s + self._wait_s
            while True:
                self._add_alike(jobs)
                left_s = until_s - self._clock()
                if len(jobs) >= self._batch(jobs[0].model) or self._closed or left_s <= 0:
                    return jobs
                self._changed.wait(left_s)

    def close(self) -> None:
        """Takes nothing more; what waits is still given out, without waiting for others."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add_alike(self, jobs: list[Job]) -> None:
        room = self._batch(jobs[0].model) - len(jobs)
        alike = [job for job in self._waiting if job.is_like(jobs[0])][: max(0, room)]
        jobs.extend(alike)
        for job in alike:
            self._waiting.remove(job)
