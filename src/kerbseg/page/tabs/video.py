"""The tab of videos: one is segmented whole, and shown."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from kerbseg.core.errors import KerbsegError
from kerbseg.page.tabs.common import QUIET, Desk, alert, keep, lines, one_at_a_time
from kerbseg.page.videos import segment


def video_tab(desk: Desk) -> None:
    """Lays the tab out, and says what its buttons do."""
    models = desk.models
    given = gr.File(label="Video", height=150, elem_id="video")
    model = desk.which()
    with gr.Row():
        start = gr.Button("Segment", variant="primary", size="sm", elem_id="start")
        end = gr.Button("Stop", size="sm", elem_id="stop")
    said = gr.HTML(elem_id="film-said")
    result = gr.Video(label="Overlay", interactive=False, buttons=["download"], elem_id="film")
    stops: dict[str, threading.Event] = {}  # by session, of the video that is under way

    def run(
        path: str | None,
        number: int,
        painted: Sequence[str],
        alpha: float,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008  gradio knows it by that
    ) -> tuple[str | None, str]:
        stop = stops[str(request.session_hash)] = threading.Event()
        try:
            if path is None:
                raise KerbsegError("there is no video; give one above")
            keep(given, [path])
            report, note = segment(
                Path(path),
                Path(tempfile.mkdtemp(dir=desk.scratch)),
                models.predictors[number],
                desk.painting(painted, alpha),
                models.classes.lookups[number],
                lambda done, total: progress((done, total or None), unit="frames"),
                stop,
            )
        except KerbsegError as error:
            return None, alert(error)
        finally:
            stops.pop(str(request.session_hash), None)
        (target,) = report.targets
        keep(result, [str(target)])
        return str(target), lines(filter(None, [str(report).replace(str(target), target.name), note]))

    def halt(request: gr.Request) -> None:
        if stop := stops.get(str(request.session_hash)):
            stop.set()

    start.click(run, [given, model, desk.painted, desk.alpha], [result, said], **one_at_a_time("videos"))
    end.click(halt, queue=False, **QUIET)
