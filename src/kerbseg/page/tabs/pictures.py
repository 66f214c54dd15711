"""The tab of pictures: what is given, what the models say of it, and the files of that."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.page.corrections import Corrections
from kerbseg.page.figures import shares_table, summary
from kerbseg.page.looking import Given, Look, pair
from kerbseg.page.tabs.common import BUTTONS, IN_ORDER, ONE_AT_A_TIME, QUIET, Desk, alert, lines
from kerbseg.page.tabs.correcting import correcting_tab
from kerbseg.page.views import VIEWS, Painting, views_of
from kerbseg.predict.drawings import DRAWINGS

FIRST = next(iter(VIEWS))


def pictures_tab(desk: Desk, corrections: Corrections) -> None:
    """Lays the tab out, and says what follows when something is given or switched."""
    models, switches = desk.models, [desk.painted, desk.alpha]
    given, look, drawn_into = gr.State([]), gr.State(None), gr.State(None)
    with gr.Row():
        pictures = gr.File(label="Pictures", file_count="multiple", height=150, elem_id="pictures")
        masks = gr.File(label="Masks (optional)", file_count="multiple", height=150, elem_id="masks")
    with gr.Row():
        folder = gr.UploadButton("A folder of pictures", file_count="directory", size="sm", elem_id="folder")
        before, after = (
            gr.Button(text, size="sm", min_width=80, elem_id=text.lower()) for text in ("Previous", "Next")
        )
        choice = gr.Dropdown(label="Picture", choices=[], elem_id="choice", scale=2)
    notes = gr.HTML(elem_id="notes")
    view = gr.Radio([FIRST], value=FIRST, label="View", elem_id="view")
    said = gr.HTML(elem_id="said")
    shown, ids_files, view_files = [], [], []
    with gr.Row():
        for number, name in enumerate(models.names):
            with gr.Column(min_width=280):
                shown.append(gr.Image(label=name, interactive=False, buttons=BUTTONS, elem_id=f"shown-{number}"))
                with gr.Row():
                    ids_files.append(_download("Ids (PNG)", f"ids-{number}"))
                    view_files.append(_download("This view (PNG)", f"file-{number}"))
    shares = gr.HTML(elem_id="shares", apply_default_css=False)
    with gr.Accordion("Correct the labels", open=False, elem_id="correct"):
        correcting = correcting_tab(desk, corrections, look)

    def take(pictures: list[str] | None, masks: list[str] | None) -> tuple[Any, ...]:
        if not pictures:
            return [], gr.Dropdown(choices=[], value=None), ""
        try:
            found, notes = pair(list(map(Path, pictures)), list(map(Path, masks or [])))
        except KerbsegError as error:
            return [], gr.Dropdown(choices=[], value=None), alert(error)
        return found, gr.Dropdown(choices=[(each.name, n) for n, each in enumerate(found)], value=0), lines(notes)

    def take_masks(given: Sequence[Given], masks: list[str] | None) -> tuple[Any, ...]:
        if not given:  # pictures that come after them find them
            return gr.skip(), gr.skip(), gr.skip()
        return take([str(each.picture) for each in given], masks)

    def see(given: Sequence[Given], number: int | None, view: str) -> tuple[Any, ...]:
        nothing = None, gr.Radio(choices=[FIRST], value=FIRST)
        if not given or number is None:
            return *nothing, "", ""
        try:
            seen = models.look(given[number])
        except KerbsegError as error:
            return *nothing, alert(error), ""
        views, said = views_of(seen), lines(summary(seen, models.names))
        chosen = gr.Radio(choices=views, value=view if view in views else FIRST)
        return seen, chosen, said, shares_table(seen, models.names, models.classes.labels)

    def draw(look: Look | None, last: Path | None, view: str, painted: Sequence[str], alpha: float) -> tuple[Any, ...]:
        if last is not None:
            shutil.rmtree(last, ignore_errors=True)
        if look is None:
            return None, *[None] * len(drawn)
        folder = Path(tempfile.mkdtemp(dir=desk.scratch))
        view = view if view in views_of(look) else FIRST  # of the picture before
        return folder, *write(look, view, desk.painting(painted, alpha), folder)

    def follow(event: Any) -> None:
        seen = event.then(see, [given, choice, view], [look, view, said, shares], **ONE_AT_A_TIME)
        seen.then(**drawing).then(**correcting)

    drawn = [*shown, *ids_files, *view_files]
    drawing: dict[str, Any] = {"fn": draw, "inputs": [look, drawn_into, view, *switches], **QUIET}
    drawing["outputs"] = [drawn_into, *drawn]
    for source in (pictures, folder):
        follow(source.upload(take, [source, masks], [given, choice, notes], **IN_ORDER))
    follow(pictures.clear(take, [pictures, masks], [given, choice, notes], **IN_ORDER))
    for changed in (masks.upload, masks.clear):
        follow(changed(take_masks, [given, masks], [given, choice, notes], **IN_ORDER))
    follow(choice.input(lambda: None, **QUIET))
    for button, by in ((before, -1), (after, 1)):
        follow(button.click(partial(_step, by), [given, choice], choice, **QUIET))
    view.input(**drawing)
    for switched in (desk.painted.change, desk.alpha.release):
        switched(**drawing).then(**correcting)


def write(look: Look, view: str, painting: Painting, folder: Path) -> list[str]:
    """Writes what is shown of each model, and its ids; gives the files: shown, ids, shown again to be downloaded."""
    stem, shown, ids = look.given.picture.stem, [], []
    for number, prediction in enumerate(look.predictions):
        path = folder / str(number) / f"{stem}_{'overlay' if view == FIRST else view.lower()}.png"
        with atomic_write(path) as temporary:
            VIEWS[view].draw(look, number, painting).save(temporary)
        shown.append(str(path))
        ids.append(str(path.with_name(f"{stem}{DRAWINGS['ids'].ending}")))
        prediction.save(path.with_name(stem), "ids")
    return [*shown, *ids, *shown]


def _step(by: int, given: Sequence[Given], number: int | None) -> int | None:
    return (number + by) % len(given) if given and number is not None else None


def _download(label: str, elem_id: str) -> gr.DownloadButton:
    return gr.DownloadButton(label, size="sm", min_width=100, elem_id=elem_id)
