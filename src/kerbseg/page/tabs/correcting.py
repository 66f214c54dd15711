"""Correcting labels: a brush over the picture, and a button that saves what was painted as training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from kerbseg.apps.html import data_uri, thumbnail
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import counted
from kerbseg.core.types import VOID
from kerbseg.page.corrections import Corrections
from kerbseg.page.draft import Draft, Stroke
from kerbseg.page.figures import css_colors
from kerbseg.page.looking import Look
from kerbseg.page.tabs.common import QUIET, Desk, lines, told

AS_PREDICTED = -1  # what is painted in place of a class
SHEET = '<div class="sheet">${value ? `<img alt="labels" draggable="false" src="${value}">` : ""}</div>'

Drafts = Mapping[Path, Draft]  # by picture, of those that were painted on


def correcting_tab(desk: Desk, corrections: Corrections, look: gr.State) -> dict[str, Any]:
    """Lays it out; gives the event that shows the labels of a look."""
    models = desk.models
    labels, drafts = models.labels, gr.State({})
    named = [(name, train_id) for train_id, name in enumerate(labels.classes)]
    with gr.Row():
        choices = [*named, ("no class", VOID), ("as predicted", AS_PREDICTED)]
        class_id = gr.Dropdown(choices, value=0, label="Paint", elem_id="class")
        radius = gr.Slider(1, 100, 12, step=1, label="Radius of the brush, pixels", elem_id="radius")
    brush = (files("kerbseg.page.tabs") / "brush.js").read_text(encoding="utf-8")
    color = _brush_color(labels, 0)
    sheet = gr.HTML("", html_template=SHEET, js_on_load=brush, elem_id="brush", color=color, radius=12)
    with gr.Row():
        undo = gr.Button("Undo", size="sm", elem_id="undo")
        save = gr.Button("Save as training data", variant="primary", size="sm", elem_id="save")
        replace = gr.Checkbox(label="Replace a mask that is there", elem_id="replace")
    said = gr.HTML(lines([f"masks are saved into `{corrections.folder}`"]), elem_id="saved")

    def show(look: Look | None, drafts: Drafts, painted: Sequence[str], alpha: float) -> str:
        if look is None:
            return ""
        ids = models.classes.lookups[0][_now(look, drafts).ids]
        pixels = desk.painting(painted, alpha).paint(look.picture, ids, names=False)
        return data_uri(thumbnail(np.asarray(pixels), max(pixels.size)))

    def paint(look: Look | None, drafts: Drafts, train_id: int, event: gr.EventData) -> tuple[Drafts, str]:
        if look is None:
            return drafts, ""
        with told():
            where = Stroke.parse(event.points, event.radius).covers(look.picture.shape[:2])
        return _changed(look, drafts, _now(look, drafts).painted(where, None if train_id == AS_PREDICTED else train_id))

    def take_back(look: Look | None, drafts: Drafts) -> tuple[Drafts, str]:
        return (drafts, "") if look is None else _changed(look, drafts, _now(look, drafts).undone())

    def keep(look: Look | None, drafts: Drafts, replace: bool) -> str:
        with told():
            if look is None:
                raise KerbsegError("there is no picture whose labels could be saved; give one under Pictures")
            saved = corrections.save(look.given.picture, _now(look, drafts).ids, look.given.name, replace)
        learn = f"kerbseg train own --data {corrections.folder}"
        return lines(
            [f"saved `{saved.mask}`; {counted(len(corrections), 'mask')} in all; to learn from them: `{learn}`"]
        )

    state = [look, drafts]
    showing: dict[str, Any] = {"fn": show, "inputs": [*state, desk.painted, desk.alpha], "outputs": sheet, **QUIET}
    sheet.stroke(paint, [*state, class_id], [drafts, said], **QUIET).then(**showing)
    undo.click(take_back, state, [drafts, said], **QUIET).then(**showing)
    save.click(keep, [*state, replace], said, **QUIET)
    class_id.input(lambda train_id: gr.HTML(color=_brush_color(labels, train_id)), class_id, sheet, **QUIET)
    radius.input(lambda radius: gr.HTML(radius=radius), radius, sheet, **QUIET)
    return showing


def _now(look: Look, drafts: Drafts) -> Draft:
    return drafts.get(look.given.picture) or Draft.of(look.predictions[0].ids)


def _changed(look: Look, drafts: Drafts, draft: Draft) -> tuple[Drafts, str]:
    return {**drafts, look.given.picture: draft}, lines([f"{draft.changed} pixels are not as predicted"])


def _brush_color(labels: LabelSet, train_id: int) -> str:
    """The color of a brush, as a style sheet has it: that of its class, white for what is none."""
    return css_colors(labels)[train_id] if 0 <= train_id < len(labels) else "white"
