"""The CPUs that a process runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from kerbseg.core.errors import KerbsegError


def parse_cpus(text: str) -> frozenset[int]:
    """Numbers of CPUs of a text such as `0,2` or `4-7`. Raises KerbsegError for another text."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = (each.strip() for each in part.partition("-"))
        if not all(each.isascii() and each.isdigit() and len(each) < 5 for each in (first, last or first)):
            raise KerbsegError(f"CPUs {text!r} are no numbers such as 0,2 or 4-7")
        if dash and (not last or int(last) < int(first)):
            raise KerbsegError(f"CPUs {text!r}: {part.strip()!r} is no range; write the smaller number first, as 4-7")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


@contextmanager
def on_cpus(cpus: frozenset[int] | None) -> Iterator[None]:
    """In it this thread, and every thread that it starts, runs on these CPUs alone; None changes nothing.

    Threads that run already stay where they are, so it is entered before engines are loaded. Raises KerbsegError for a
    CPU that this process may not use, and where the system cannot bind threads.
    """
    if cpus is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise KerbsegError("threads are bound to CPUs on Linux only; leave the CPUs out")
    before = os.sched_getaffinity(0)
    if missing := sorted(cpus - before):
        raise KerbsegError(f"this process may not use CPU {missing[0]}; it may use {_listed(before)}")
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _listed(cpus: set[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
