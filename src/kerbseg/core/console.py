"""The terminal as everything of kerbseg writes to it: names that others chose are shown, not obeyed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment

from kerbseg.core.text import printable_lines


class SafeConsole(Console):
    """A console to which brackets are brackets, and a class's name with an escape sequence is text.

    Where the reader of its output goes away it raises BrokenPipeError, as `print` does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        self.push_render_hook(_ShowAll())

    def on_broken_pipe(self) -> None:
        """Leaves it to the caller: rich's own way ends the process with status 1."""
        raise BrokenPipeError


class _ShowAll(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


@dataclass(frozen=True)
class _Shown:
    """What is to be shown, with everything in its text escaped that a terminal would obey."""

    content: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        for segment in console.render(self.content, options):
            # codes that rich itself sends, to move a bar, say, are no text
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))
