"""What a page says of a look in figures: how much each class covers, and how much is right."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from kerbseg.core.display import display_palette
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.metrics.details import picture_miou
from kerbseg.page.looking import Look
from kerbseg.predict.legend import percent
from kerbseg.predict.shares import shares


def summary(look: Look, names: Sequence[str]) -> list[str]:
    """Lines about a look: its picture's size, how far the models agree, and what of each is right by the mask."""
    height, width = look.picture.shape[:2]
    lines = [f"{look.given.name}: {height}x{width} (HxW)"]
    if len(look.ids) == 2:
        same = (look.ids[0] == look.ids[1]).mean()
        lines.append(f"the models agree on {percent(same)} of the pixels")
    if look.truth is not None:
        known = look.truth != VOID
        for name, ids in zip(names, look.ids, strict=True):
            right = (ids == look.truth)[known].mean() if known.any() else math.nan
            lines.append(f"{name}: {_right(right)}, mIoU of this picture {_figure(picture_miou(ids, look.truth))}")
    return lines


def shares_table(look: Look, names: Sequence[str], labels: LabelSet) -> str:
    """A table (HTML) of the share of every class that is there: of each model, and of the mask; the largest first."""
    columns = [(name, shares(ids, labels)) for name, ids in zip(names, look.ids, strict=True)]
    if look.truth is not None:
        columns.append(("mask", shares(look.truth, labels)))
    named = dict.fromkeys(name for _, each in columns for name in each)  # the first model's largest is the first
    there = [name for name in named if any(each.get(name, 0) for _, each in columns)]
    colors = dict(zip(labels.classes, css_colors(labels), strict=True))
    head = Markup("").join(Markup("<th scope=col>{}</th>").format(name) for name, _ in columns)
    rows = [
        Markup("<tr><th scope=row><span class=chip style='background: {}'></span>{}</th>{}</tr>").format(
            colors.get(name, "black"), name, Markup("").join(_cell(each.get(name, 0.0)) for _, each in columns)
        )
        for name in there
    ]
    return str(Markup("<table class=shares><tr><th>class</th>{}</tr>{}</table>").format(head, Markup("").join(rows)))


def switch_colors(labels: LabelSet, selector: str) -> str:
    """Style sheet that puts the color of each class beside its switch, the n-th label within `selector`."""
    return "\n".join(
        f"{selector} label:nth-of-type({n})::before {{ background: {color}; }}"
        for n, color in enumerate(css_colors(labels), 1)
    )


def _cell(share: float) -> Markup:
    width = f"{100 * share:.1f}%"
    return Markup("<td><span class=bar style='width: {}'></span><span>{}</span></td>").format(
        width, percent(share) if share else "–"
    )


def css_colors(labels: LabelSet) -> list[str]:
    """The color of each class that people see, as a style sheet has it."""
    return [f"rgb({red} {green} {blue})" for red, green, blue in display_palette(labels)[: len(labels)].tolist()]


def _right(share: float) -> str:
    return "nothing to compare" if math.isnan(share) else f"{percent(share)} of the pixels right"


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
