"""What a worker is given: a task, which it opens once, and shards of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

Outcome = dict[str, Any]
"""What came of a shard, as JSON has it: it travels as text."""


class Task(Protocol):
    """What is the same for all shards. It is sent to each worker, so it holds plain values."""

    def open(self) -> Callable[[Any], Outcome]:
        """What does a shard: with its runtime open, one a worker."""


Run = Callable[[Task, Sequence[Any]], Iterator[Outcome]]
"""Does shards with a task, in any order. A shard of which nothing comes back was lost: its worker ended, each time."""


def run_here(task: Task, shards: Sequence[Any]) -> Iterator[Outcome]:
    """Does the shards in this process, one after another."""
    work = task.open()
    return map(work, shards)


class Counted:
    """Outcomes as they come; a progress bar asks how many there will be."""

    def __init__(self, outcomes: Iterator[Outcome], count: int) -> None:
        self._outcomes, self._count = outcomes, count

    def __length_hint__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes
