"""Help texts that list what there is: names come from the tables at the moment they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from cyclopts.help import DefaultFormatter, InlineText

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions


def _conventions() -> Iterable[str]:
    from kerbseg.profiling.conventions import CONVENTIONS

    return (name for name in CONVENTIONS if name != "true")


def _corruptions() -> Iterable[str]:
    from kerbseg.data.corrupt import choices

    return choices()


def _data_formats() -> Iterable[str]:
    from kerbseg.data.formats import FORMATS

    return FORMATS


def _data_sets() -> Iterable[str]:
    from kerbseg.data import DATASETS

    return DATASETS


def _devices() -> Iterable[str]:
    from kerbseg.runtime.engines import devices

    return devices()


def _engines() -> Iterable[str]:
    from kerbseg.runtime import ENGINES

    return ENGINES


def _exported() -> Iterable[str]:
    from kerbseg.runtime.engines import exporting

    return exporting()


def _formats() -> Iterable[str]:
    from kerbseg.importers import FORMATS

    return FORMATS


def _keyframe_formats() -> Iterable[str]:
    from kerbseg.keyframes.formats import FORMATS

    return FORMATS


def _label_sets() -> Iterable[str]:
    from kerbseg.core.labels import LABEL_SETS

    return LABEL_SETS


def _papers() -> Iterable[str]:
    from kerbseg.tables.schema import list_papers

    return list_papers()


def _saved() -> Iterable[str]:
    from kerbseg.predict.sinks import saved_words

    return saved_words()


def _weights() -> Iterable[str]:
    from kerbseg.bundle import shipped

    return shipped()


LISTS: dict[str, Callable[[], Iterable[str]]] = {  # by the word that stands in braces in a help text
    "conventions": _conventions,
    "corruptions": _corruptions,
    "data_formats": _data_formats,
    "data_sets": _data_sets,
    "devices": _devices,
    "engines": _engines,
    "exported": _exported,
    "formats": _formats,
    "keyframe_formats": _keyframe_formats,
    "label_sets": _label_sets,
    "papers": _papers,
    "saved": _saved,
    "weights": _weights,
}


def filled(text: str) -> str:
    """The text with each `{list}` replaced by the names that are in that table now."""
    return re.sub(r"\{(\w+)\}", lambda match: ", ".join(LISTS[match[1]]()) if match[1] in LISTS else match[0], text)


def shown(text: str) -> str:
    """The text with lists filled in, as markdown that keeps `<name>`, which it would take for HTML and leave out."""
    parts = filled(text).split("`")
    parts[::2] = [part.replace("<", r"\<") for part in parts[::2]]  # every second one is code
    return "`".join(parts)


class ListingFormatter(DefaultFormatter):
    """Cyclopts' own help, with lists filled in; only the tables that the shown command names are imported."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Shows one panel of parameters or commands."""
        for entry in panel.entries:
            _fill(entry.description)
        super().__call__(console, options, panel.copy(entries=[_short(entry) for entry in panel.entries]))

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Shows what stands above the panels."""
        _fill(description)
        super().render_description(console, options, description)


def _short(entry: HelpEntry) -> HelpEntry:
    """The entry without what is clear: a place's second name, the opposite of a flag, defaults that are nothing."""
    names = () if entry.positional_label else entry.positive_names
    default = None if entry.default in ("False", "()") else entry.default
    return entry.copy(positive_names=names, negative_names=(), default=default)


def _fill(description: Any) -> None:
    from rich.markdown import Markdown

    if isinstance(description, InlineText) and isinstance(description.primary_renderable, Markdown):
        description.primary_renderable = Markdown(shown(description.primary_renderable.markup))
