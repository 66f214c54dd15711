"""Correcting labels: a brush over the picture, and a button that saves what was painted as training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import count
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
from kerbseg.page.tabs.common import EACH, LATEST, QUIET, Desk, lines, one_at_a_time, told

AS_PREDICTED = -1  # what is painted in place of a class
SHEET = """<div class="sheet" data-of="${value.of}" data-turn="${value.turn}" data-size="${value.size}">
${value.src ? `<img alt="labels" draggable="false" src="${value.src}">` : ""}</div>"""
EMPTY = {"src": "", "of": "", "turn": 0, "size": ""}
LONGEST = 4096  # pixels of a side of the sheet, at most: a browser shows hardly more, and each stroke sends it anew

Drafts = Mapping[Path, Draft]  # by picture, of those that were painted on


def correcting_tab(desk: Desk, corrections: Corrections, look: gr.State) -> dict[str, Any]:
    """Lays it out; gives the event that shows the labels of a look."""
    models = desk.models
    labels, drafts, lying = models.labels, gr.State({}), gr.State(None)  # the look that lies on the sheet
    turns = count(1)  # so that what a stroke has left on the sheet goes, if it has changed nothing, too
    named = [(name, train_id) for train_id, name in enumerate(labels.classes)]
    with gr.Row():
        choices = [*named, ("no class", VOID), ("as predicted", AS_PREDICTED)]
        class_id = gr.Dropdown(choices, value=0, label="Paint", elem_id="class")
        radius = gr.Slider(1, 100, 12, step=1, label="Radius of the brush, pixels", elem_id="radius")
    brush = (files("kerbseg.page.tabs") / "brush.js").read_text(encoding="utf-8")
    color = _brush_color(labels, 0)
    sheet = gr.HTML(EMPTY, html_template=SHEET, js_on_load=brush, elem_id="brush", color=color, radius=12)
    with gr.Row():
        undo = gr.Button("Undo", size="sm", elem_id="undo")
        save = gr.Button("Save as training data", variant="primary", size="sm", elem_id="save")
        replace = gr.Checkbox(label="Replace a mask that is there", elem_id="replace")
    said = gr.HTML(lines([f"masks are saved into `{corrections.folder}`"]), elem_id="saved")

    def show(look: Look | None, drafts: Drafts, painted: Sequence[str], alpha: float) -> tuple[Any, Look | None]:
        if look is None:
            return EMPTY, None
        ids = models.classes.lookups[0][_now(look, drafts).ids]
        pixels = desk.painting(painted, alpha).paint(look.picture, ids, names=False)
        picture = data_uri(thumbnail(np.asarray(pixels), min(LONGEST, max(pixels.size))))
        size = f"{pixels.width} {pixels.height}"
        return {"src": picture, "of": look.given.key, "turn": next(turns), "size": size}, look

    def paint(look: Look | None, drafts: Drafts, train_id: int, event: gr.EventData) -> tuple[Drafts, str]:
        with told():
            if look is None or event.of != look.given.key:
                raise KerbsegError("another picture came while this was painted, so it was left out; paint it again")
            where = Stroke.parse(event.points, event.radius).covers(look.picture.shape[:2])
        return _changed(look, drafts, _now(look, drafts).painted(where, None if train_id == AS_PREDICTED else train_id))

    def take_back(look: Look | None, drafts: Drafts) -> tuple[Drafts, str]:
        return (drafts, "") if look is None else _changed(look, drafts, _now(look, drafts).undone())

    def save_mask(look: Look | None, drafts: Drafts, replace: bool) -> str:
        with told():
            if look is None:
                raise KerbsegError("there is no picture whose labels could be saved; give one under Pictures")
            saved = corrections.save(look.given.picture, _now(look, drafts).ids, look.given.name, replace)
        learn = f"kerbseg train own --data {corrections.folder}"
        return lines(
            [f"saved `{saved.mask}`; {counted(len(corrections), 'mask')} in all; to learn from them: `{learn}`"]
        )

    state, by_turns = [lying, drafts], one_at_a_time("drafts", **EACH)
    showing: dict[str, Any] = {"fn": show, "inputs": [look, drafts, desk.painted, desk.alpha], **QUIET}
    showing["outputs"] = [sheet, lying]
    sheet.stroke(paint, [*state, class_id], [drafts, said], **by_turns).then(**showing)
    undo.click(take_back, state, [drafts, said], **by_turns).then(**showing)
    save.click(save_mask, [*state, replace], said, **by_turns)
    class_id.input(lambda train_id: gr.HTML(color=_brush_color(labels, train_id)), class_id, sheet, **QUIET, **LATEST)
    radius.input(lambda radius: gr.HTML(radius=radius), radius, sheet, **QUIET, **LATEST)
    return showing


def _now(look: Look, drafts: Drafts) -> Draft:
    return drafts.get(look.given.picture) or Draft.of(look.predictions[0].ids)


def _changed(look: Look, drafts: Drafts, draft: Draft) -> tuple[Drafts, str]:
    return {**drafts, look.given.picture: draft}, lines([f"{draft.changed} pixels are not as predicted"])


def _brush_color(labels: LabelSet, train_id: int) -> str:
    """The color of a brush, as a style sheet has it: that of its class, white for what is none."""
    return css_colors(labels)[train_id] if 0 <= train_id < len(labels) else "white"
