"""The tab of pictures: what is given, what the models say of it, and the files of that."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.page.corrections import Corrections
from kerbseg.page.figures import shares_table, summary
from kerbseg.page.looking import Look
from kerbseg.page.selection import Selection
from kerbseg.page.tabs.common import BUTTONS, IN_ORDER, LATEST, ONE_AT_A_TIME, QUIET, Desk, alert, keep, lines
from kerbseg.page.tabs.correcting import correcting_tab
from kerbseg.page.views import VIEWS, Painting, views_of
from kerbseg.predict.drawings import DRAWINGS

FIRST = next(iter(VIEWS))


@dataclass(frozen=True)
class Drawn:
    """What a browser was given to show, and the folders of it and of what was shown before."""

    look: Look | None
    view: str
    painting: Painting | None
    folders: tuple[Path, ...] = ()


NOTHING = Drawn(None, FIRST, None)


def pictures_tab(desk: Desk, corrections: Corrections) -> None:
    """Lays the tab out, and says what follows when something is given or switched."""
    models, switches = desk.models, [desk.painted, desk.alpha]
    chosen, look, drawn = gr.State(Selection()), gr.State(None), gr.State(NOTHING)
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

    def offer(selection: Selection) -> tuple[Any, ...]:
        try:
            names, notes, error = [each.name for each in selection.given], selection.notes, ""
        except KerbsegError as reason:
            selection, names, notes, error = selection.with_pictures(()), [], [], alert(reason)
        choices = [(name, number) for number, name in enumerate(names)]
        return selection, gr.Dropdown(choices, value=selection.number if names else None), error or lines(notes)

    def take(files: list[str] | None, selection: Selection) -> tuple[Any, ...]:
        keep(pictures, files or [])
        return offer(selection.with_pictures(list(map(Path, files or []))))

    def take_masks(files: list[str] | None, selection: Selection) -> tuple[Any, ...]:
        keep(masks, files or [])
        return offer(selection.with_masks(list(map(Path, files or []))))

    def choose(number: int | None, selection: Selection) -> Selection:
        return selection if number is None else selection.at(number)

    def step(by: int, selection: Selection) -> tuple[Selection, int | None]:
        after = selection.at(selection.number + by)
        return after, after.number if after.given else None

    def see(selection: Selection, last: Look | None, view: str) -> tuple[Any, ...]:
        nothing = None, gr.Radio(choices=[FIRST], value=FIRST)
        given = selection.current
        if given is None:
            return None, *nothing, "", ""
        number = selection.number  # once more: answers to clicks that follow each other at once may change places
        if last is not None and last.given == given:  # whoever asked for it was quicker
            return number, gr.skip(), gr.skip(), gr.skip(), gr.skip()
        try:
            seen = models.look(given)
        except KerbsegError as error:
            return number, *nothing, alert(error), ""
        views, said = views_of(seen), lines(summary(seen, models.names))
        radio = gr.Radio(choices=views, value=view if view in views else FIRST)
        return number, seen, radio, said, shares_table(seen, models.names, models.classes.labels)

    def draw(look: Look | None, last: Drawn, view: str, painted: Sequence[str], alpha: float) -> tuple[Any, ...]:
        view = view if look is not None and view in views_of(look) else FIRST  # of the picture before
        painting = desk.painting(painted, alpha)
        if (last.look, last.view, last.painting) == (look, view, painting):
            return gr.skip(), *[gr.skip()] * len(outputs)
        for folder in last.folders[:-1]:  # of the last one a browser may still be loading files
            shutil.rmtree(folder, ignore_errors=True)
        if look is None:
            return Drawn(look, view, painting, last.folders[-1:]), *[None] * len(outputs)
        folder = Path(tempfile.mkdtemp(dir=desk.scratch))
        written = write(look, view, painting, folder)
        keep(shown[0], written)
        return Drawn(look, view, painting, (*last.folders[-1:], folder)), *written

    def follow(event: Any) -> None:
        seen = event.then(see, [chosen, look, view], [choice, look, view, said, shares], **ONE_AT_A_TIME)
        seen.then(**drawing).then(**correcting)

    outputs = [*shown, *ids_files, *view_files]
    drawing: dict[str, Any] = {"fn": draw, "inputs": [look, drawn, view, *switches], "outputs": [drawn, *outputs]}
    drawing |= QUIET
    taken = [chosen, choice, notes]
    for source in (pictures, folder):
        follow(source.upload(take, [source, chosen], taken, **IN_ORDER))
    follow(pictures.clear(take, [pictures, chosen], taken, **IN_ORDER))
    for changed in (masks.upload, masks.clear):
        follow(changed(take_masks, [masks, chosen], taken, **IN_ORDER))
    follow(choice.input(choose, [choice, chosen], chosen, **{**IN_ORDER, **LATEST}))
    for button, by in ((before, -1), (after, 1)):
        follow(button.click(partial(step, by), chosen, [chosen, choice], **IN_ORDER))
    view.input(**drawing, **LATEST)
    for switched in (desk.painted.change, desk.alpha.release):
        switched(**drawing, **LATEST).then(**correcting)


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


def _download(label: str, elem_id: str) -> gr.DownloadButton:
    return gr.DownloadButton(label, size="sm", min_width=100, elem_id=elem_id)
