"""The tab of the browser's camera: each picture is painted as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.page.tabs.common import BUTTONS, QUIET, Desk, told

EVERY_S = 0.2  # seconds between pictures that the browser sends, at least


def camera_tab(desk: Desk) -> None:
    """Lays the tab out, and says what becomes of a picture."""
    models, model = desk.models, desk.which()
    with gr.Row():
        camera = gr.Image(sources=["webcam"], streaming=True, type="numpy", label="Camera", elem_id="camera")
        result = gr.Image(label="Overlay", interactive=False, buttons=BUTTONS, elem_id="live")

    def see(
        frame: UInt8[np.ndarray, "h w 3"] | None, number: int, painted: Sequence[str], alpha: float
    ) -> Image.Image | None:
        if frame is None:
            return None
        with told():
            ids = models.predictors[number](frame, channels="rgb").ids
        return desk.painting(painted, alpha).paint(frame, models.classes.lookups[number][ids])

    # a camera that runs holds its place all the time: each has its own, and the model takes them by turns
    live: dict[str, Any] = {**QUIET, "show_progress": "hidden", "stream_every": EVERY_S, "time_limit": None}
    live["concurrency_limit"] = None
    camera.stream(see, [camera, model, desk.painted, desk.alpha], result, **live)
