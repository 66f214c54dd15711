"""Ctrl-C and other requests to end: the first is raised where nothing gets lost by it, the others change nothing.

Within `ending_once` a request is raised at once as `Interrupted`, but within `held` only by `check`, or at the end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kerbseg.core.errors import Interrupted

FROM_OUTSIDE = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Requests of the system, of a supervisor, or of a terminal that is closed."""

PATIENCE = b"kerbseg: a moment, what was segmented is being made whole\n"


class _Requests:
    """What has come since `ending_once` was entered; signals belong to the process, so there is one of these."""

    def __init__(self) -> None:
        self.active = False
        self.holders = 0
        self.first: int | None = None
        self.raised = False

    def note(self, signum: int, frame: Any) -> None:
        if self.first is None:
            self.first = signum
        elif self.holders:
            os.write(2, PATIENCE)  # print may be under way, and cannot be entered twice
        if not self.holders:
            check()


_requests = _Requests()


@contextmanager
def ending_once(*signums: int, last: bool = False) -> Iterator[None]:
    """In it the first of the signals is raised as Interrupted, and no other; if it is the `last` block, none behind it.

    Signals that are ignored, or that someone else takes, stay as they are; so do all of them outside the main thread.
    """
    if _requests.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in signums}
    ours = [signum for signum, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)]
    _requests.__init__()  # type: ignore[misc] # what came in an earlier one is over
    _requests.active = True
    for signum in ours:
        signal.signal(signum, _requests.note)
    try:
        yield
    finally:
        for signum in ours:
            signal.signal(signum, signal.SIG_IGN if last and _requests.raised else before[signum])
        _requests.active = False


@contextmanager
def held() -> Iterator[None]:
    """In it a request waits for `check`, and at the latest for the end of a block that ends well."""
    _requests.holders += 1
    try:
        yield
    finally:
        _requests.holders -= 1
    if not _requests.holders:
        check()


def check() -> None:
    """Raises Interrupted, once, where a request has come; in the main thread, as Python does."""
    first = _requests.first
    if not _requests.active or first is None or _requests.raised:
        return
    if threading.current_thread() is threading.main_thread():
        _requests.raised = True
        raise Interrupted(first)
