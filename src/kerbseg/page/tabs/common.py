"""What the tabs share: how events run, how lines and errors are shown, how classes are painted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kerbseg.core.errors import KerbsegError
from kerbseg.page.looking import Models
from kerbseg.page.views import Painting

BUTTONS: list[Any] = ["download", "fullscreen"]  # of pictures; none that sends one away
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
LATEST: dict[str, Any] = {"trigger_mode": "always_last"}  # of switches: gradio drops what comes meanwhile
EACH: dict[str, Any] = {"trigger_mode": "multiple"}


def one_at_a_time(what: str, **more: Any) -> dict[str, Any]:
    """Of events that wait for each other, in the order in which they come, whichever browser they are of."""
    return {**QUIET, "concurrency_limit": 1, "concurrency_id": what, **more}


ONE_AT_A_TIME = one_at_a_time("pictures")
IN_ORDER = one_at_a_time("given", **EACH)  # files, and steps from one to the next


@dataclass(frozen=True)
class Desk:
    """What every tab has at hand: the models, the switches beside the tabs, and a folder for what is shown."""

    models: Models
    painted: gr.CheckboxGroup
    alpha: gr.Slider
    scratch: Path

    def painting(self, painted: Sequence[str], alpha: float) -> Painting:
        """How classes are painted where the switches stand so."""
        return Painting(self.models.classes.labels, frozenset(painted), alpha)

    def which(self) -> gr.Radio:
        """What chooses the model that looks, by its number; not shown where there is one."""
        names = self.models.names
        return gr.Radio(list(names), value=names[0], type="index", label="Model", visible=len(names) > 1)


def keep(component: gr.components.Component, files: Iterable[str]) -> None:
    """Keeps files until the page ends: gradio removes those that are some time old, be they in use or not."""
    component.keep_in_cache.update(files)


def lines(texts: Iterable[object]) -> str:
    """Text as HTML, a line each; text in backticks as code."""
    return "".join(f"<p>{_coded(escape(str(text)))}</p>" for text in texts)


def alert(error: KerbsegError) -> str:
    """An error as HTML: the line that the command would print."""
    return f'<p role="alert" class="alert">{escape(str(error))}</p>'


@contextmanager
def told() -> Iterator[None]:
    """Within it an error leaves what is shown as it is, and its line stands above the page until it is closed."""
    try:
        yield
    except KerbsegError as error:
        raise gr.Error(escape(str(error)), duration=None, print_exception=False) from error


def _coded(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
