"""The page as a whole: the switches, and beside them the tabs."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import gradio as gr

from kerbseg.page.corrections import Corrections
from kerbseg.page.figures import switch_colors
from kerbseg.page.looking import Models
from kerbseg.page.tabs.camera import camera_tab
from kerbseg.page.tabs.common import Desk
from kerbseg.page.tabs.pictures import pictures_tab
from kerbseg.page.tabs.video import video_tab

CLEARED = (600, 3600)
"""Each so many seconds gradio removes the files that are so many seconds old, but those that `keep` names: a camera's.
"""


def build(models: Models, corrections: Corrections, scratch: Path) -> gr.Blocks:
    """The page of these models; what it shows is written into the folder `scratch`, corrections into their data set."""
    with gr.Blocks(title="kerbseg", analytics_enabled=False, fill_width=True, delete_cache=CLEARED) as page:
        gr.Markdown(f"# kerbseg\n{' beside '.join(f'`{name}`' for name in models.names)}")
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=1, min_width=260):
                alpha = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the colors", elem_id="opacity")
                names, on = list(models.classes.labels.classes), models.classes.painted()
                painted = gr.CheckboxGroup(names, value=on, label="Classes", show_select_all=True, elem_id="switches")
            desk = Desk(models, painted, alpha, scratch)
            with gr.Column(scale=4, min_width=320), gr.Tabs():
                with gr.Tab("Pictures"):
                    pictures_tab(desk, corrections)
                with gr.Tab("Video"):
                    video_tab(desk)
                with gr.Tab("Camera"):
                    camera_tab(desk)
    return page


def style_sheet(models: Models) -> str:
    """The page's own CSS, with the color of each class beside its switch."""
    own = (files("kerbseg.page") / "style.css").read_text(encoding="utf-8")
    return f"{own}\n{switch_colors(models.classes.labels, '#switches .wrap')}"


def theme() -> gr.themes.Base:
    """Gradio's default with fonts that every system has, so that none is loaded."""
    fonts, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="teal", font=fonts, font_mono=mono)
