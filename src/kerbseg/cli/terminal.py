"""What commands show and write: tables, progress, JSON."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerbseg.core.files import atomic_write, check_replaces
from kerbseg.core.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_WIDTH = 200  # characters: a table cut off at 80 columns would lose figures in a log
JSON_FILE, HTML_PAGE = ("JSON file", b"{["), ("HTML page", b"<")
"""What is written beside results: what it is called, and how one begins."""

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def verbosity(quiet: bool, verbose: bool) -> Iterator[None]:
    """Within it commands say less (tables of results, warnings and errors only) or more (debug lines on stderr).

    What kerbseg's modules log is printed: information as `tell` prints it, the rest on stderr.
    """
    logger, handler = logging.getLogger("kerbseg"), _Printing()
    level, before = logging.DEBUG if verbose else logging.INFO, (logger.level, logger.propagate)
    token = _quiet.set(quiet)
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # another package's handler would print it twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether --quiet was given."""
    return _quiet.get()


class _Printing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            tell(record.getMessage())
        else:
            text = self.format(record)  # with its traceback, if it has one
            print(f"kerbseg: {record.levelname.lower()}: {printable_lines(text)}", file=sys.stderr, flush=True)


def show(what: RenderableType) -> None:
    """Prints a table or text of results, as wide as the terminal; wide enough for all columns where there is none."""
    from kerbseg.core.console import SafeConsole

    SafeConsole(width=width()).print(what)


def result(text: object) -> None:
    """Prints text that was asked for, as `tell` does; with --quiet too."""
    print(printable_lines(str(text)))


def tell(text: object) -> None:
    """Prints plain text, in which others' names do a terminal no harm; nothing with --quiet."""
    if not _quiet.get():
        print(printable_lines(str(text)), flush=True)


def say(line: str) -> None:
    """Shows what is being done: beside the figures on a terminal, before them in a log, whose stderr is for errors."""
    if not _quiet.get():
        print(printable(line), file=sys.stderr if sys.stderr.isatty() else sys.stdout, flush=True)


def next_commands(*commands: Sequence[str]) -> None:
    """Prints each command that makes sense now as a line `next: ...` that a shell takes as it stands."""
    for command in commands:
        tell(f"next: {shlex.join(command)}")


def width() -> int:
    """Characters a line that `show` has: the terminal's, or $COLUMNS."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal or "COLUMNS" in os.environ else LOG_WIDTH


def progress(items: Sequence[Any]) -> Iterable[Any]:
    """The items, with a bar and the time left where there is a terminal; lines that are printed appear above it."""
    from rich.progress import Progress

    from kerbseg.core.console import SafeConsole

    console = SafeConsole(stderr=True)
    bar = Progress(
        console=console,
        transient=True,
        disable=_quiet.get() or not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # a log gets its lines
    )
    with bar:
        yield from bar.track(items, description="")


def write_json(path: Path, value: Any) -> None:
    """Writes figures as JSON; a file already there is replaced only when the new one is whole.

    Raises KerbsegError for a file of another kind: by now it may be the command's own result.
    """
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    check_replaces(path, *JSON_FILE)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def write_page(path: Path, text: str) -> None:
    """Writes a page of HTML; a file already there is replaced only when the new one is whole.

    Raises as `write_json`.
    """
    check_replaces(path, *HTML_PAGE)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """The same with null, which is JSON's word for no number, for NaN and infinities, for which it has none."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
