"""What commands show and write: tables, progress, JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerbseg.core.files import atomic_write
from kerbseg.core.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_WIDTH = 200  # characters: a table cut off at 80 columns would lose figures in a log


def show(what: RenderableType) -> None:
    """Prints a table or text, as wide as the terminal; wide enough for all columns where there is none."""
    from kerbseg.core.console import SafeConsole

    SafeConsole(width=width()).print(what)


def tell(text: object) -> None:
    """Prints plain text, in which others' names do a terminal no harm."""
    print(printable_lines(str(text)))


def say(line: str) -> None:
    """Shows what is being done: beside the figures on a terminal, before them in a log, whose stderr is for errors."""
    print(printable(line), file=sys.stderr if sys.stderr.isatty() else sys.stdout, flush=True)


def width() -> int:
    """Characters a line that `show` has."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else LOG_WIDTH


def progress(items: Sequence[Any]) -> Iterable[Any]:
    """The items, with a bar and the time left where there is a terminal."""
    from rich.progress import track

    from kerbseg.core.console import SafeConsole

    console = SafeConsole(stderr=True)
    return track(items, "", console=console, transient=True, disable=not console.is_terminal)


def write_json(path: Path, value: Any) -> None:
    """Writes figures as JSON; a file already there is replaced only when the new one is whole."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def write_page(path: Path, text: str) -> None:
    """Writes a page of HTML; a file already there is replaced only when the new one is whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """The same with null, which is JSON's word for no number, for NaN and infinities, for which it has none."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
