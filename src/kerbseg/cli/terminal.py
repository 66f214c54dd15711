"""What commands show and write: tables, progress, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerbseg.core.files import atomic_write

if TYPE_CHECKING:
    from rich.console import RenderableType

LOG_WIDTH = 200  # characters: a table cut off at 80 columns would lose figures in a log


def show(what: RenderableType) -> None:
    """Prints a table or text, as wide as the terminal; wide enough for all columns where there is none."""
    from rich.console import Console

    Console(width=width()).print(what)


def say(line: str) -> None:
    """Shows what is being done: beside the figures on a terminal, before them in a log, whose stderr is for errors."""
    print(line, file=sys.stderr if sys.stderr.isatty() else sys.stdout, flush=True)


def width() -> int:
    """Characters a line that `show` has."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else LOG_WIDTH


def progress(items: Sequence[Any]) -> Iterable[Any]:
    """The items, with a bar and the time left where there is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, "", console=console, transient=True, disable=not console.is_terminal)


def write_json(path: Path, value: Any) -> None:
    """Writes figures as JSON; a file already there is replaced only when the new one is whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")
