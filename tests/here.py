"""What is timed in a process of its own (see tests/profiling), timed in this one: seconds less for each model."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kerbseg.profiling import workers


@contextmanager
def worker(prepare: Any, *arguments: Any) -> Iterator[SimpleNamespace]:
    """As `workers.worker`, without a process."""
    ready = prepare(*arguments)
    yield SimpleNamespace(
        facts=ready.facts,
        answers=ready.answers,
        batch=lambda what: ready.answers[what],
        ask=lambda what, *asked: ready.answers[what](*asked),
    )


@pytest.fixture
def timed_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models are timed in this process; afterwards it has one thread again."""
    monkeypatch.setattr(workers, "worker", worker)
    yield
    torch.set_num_threads(1)
