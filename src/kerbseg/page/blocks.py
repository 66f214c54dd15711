"""The page itself: what stands where, and what happens when something is given, switched, painted or saved."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from kerbseg.apps.html import data_uri, thumbnail
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.types import VOID
from kerbseg.page.corrections import Corrections
from kerbseg.page.draft import Draft, Stroke
from kerbseg.page.figures import css_colors, shares_table, summary, switch_colors
from kerbseg.page.looking import Given, Look, Models, pair
from kerbseg.page.videos import segment
from kerbseg.page.views import VIEWS, Painting, views_of
from kerbseg.predict.drawings import DRAWINGS

AS_PREDICTED = -1  # what is painted in place of a class
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
ONE_AT_A_TIME: dict[str, Any] = {**QUIET, "concurrency_limit": 1, "concurrency_id": "models"}


def build(models: Models, corrections: Corrections, scratch: Path) -> gr.Blocks:
    """The page of these models; what it shows is written into the folder `scratch`, corrections into their data set."""
    with gr.Blocks(title="kerbseg", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# kerbseg\n{' beside '.join(f'`{name}`' for name in models.names)}")
        with gr.Row(elem_id="desk"):
            with gr.Column(scale=1, min_width=260):
                alpha = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the colors", elem_id="opacity")
                painted = gr.CheckboxGroup(
                    list(models.classes.labels.classes),
                    value=models.classes.painted(),
                    label="Classes",
                    show_select_all=True,
                    elem_id="switches",
                )
            with gr.Column(scale=4, min_width=320), gr.Tabs():
                with gr.Tab("Pictures"):
                    _pictures(models, corrections, scratch, alpha, painted)
                with gr.Tab("Video"):
                    _video(models, scratch, alpha, painted)
                with gr.Tab("Camera"):
                    _camera(models, alpha, painted)
    return page


def style_sheet(models: Models) -> str:
    """The page's own CSS, with the color of each class beside its switch."""
    own = (files("kerbseg.page") / "style.css").read_text(encoding="utf-8")
    return f"{own}\n{switch_colors(models.classes.labels, '#switches')}"


@contextmanager
def told() -> Iterator[None]:
    """Within it bad input is the command line's line, shown on the page until it is closed."""
    try:
        yield
    except KerbsegError as error:
        raise gr.Error(escape(str(error)), duration=None, print_exception=False) from error


def _pictures(
    models: Models, corrections: Corrections, scratch: Path, alpha: gr.Slider, painted: gr.CheckboxGroup
) -> None:
    given, look = gr.State([]), gr.State(None)
    with gr.Row():
        pictures = gr.File(label="Pictures", file_count="multiple", height=120, elem_id="pictures")
        masks = gr.File(label="Masks of the same names (optional)", file_count="multiple", height=120, elem_id="masks")
    with gr.Row():
        folder = gr.UploadButton("A folder of pictures", file_count="directory", size="sm")
        before, after = (gr.Button(text, size="sm", min_width=80) for text in ("Previous", "Next"))
        choice = gr.Dropdown(label="Picture", choices=[], elem_id="choice", scale=2)
    view = gr.Radio(["Classes"], value="Classes", label="View", elem_id="view")
    shown, ids_files, overlay_files = [], [], []
    with gr.Row():
        for number, name in enumerate(models.names):
            with gr.Column(min_width=280):
                shown.append(gr.Image(label=name, interactive=False, format="png", elem_id=f"shown-{number}"))
                with gr.Row():
                    ids_files.append(gr.DownloadButton("Ids (PNG)", size="sm", elem_id=f"ids-{number}"))
                    overlay_files.append(gr.DownloadButton("This view (PNG)", size="sm", elem_id=f"overlay-{number}"))
    said = gr.Markdown(elem_id="said")
    shares = gr.HTML(elem_id="shares")
    drawn = [*shown, *ids_files, *overlay_files]
    with gr.Accordion("Correct the labels", open=False, elem_id="correct"):
        correcting = _correcting(models, corrections, look, alpha, painted)

    def take(pictures: list[str] | None, masks: list[str] | None) -> tuple[Any, ...]:
        with told():
            if not pictures:
                return [], gr.Dropdown(choices=[], value=None), ""
            found, notes = pair([Path(each) for each in pictures], [Path(each) for each in masks or []])
        names = [(each.name, number) for number, each in enumerate(found)]
        return found, gr.Dropdown(choices=names, value=0), "  \n".join(map(escape, notes))

    def see(given: Sequence[Given], number: int | None, view: str) -> tuple[Any, ...]:
        if not given or number is None:
            return None, gr.Radio(choices=["Classes"], value="Classes"), "", ""
        with told():
            seen = models.look(given[number])
        views = views_of(seen)
        table = shares_table(seen, models.names, models.classes.labels)
        lines = "  \n".join(map(escape, summary(seen, models.names)))
        return seen, gr.Radio(choices=views, value=view if view in views else views[0]), lines, table

    def draw(look: Look | None, view: str, painted: Sequence[str], alpha: float) -> list[Any]:
        if look is None or view not in views_of(look):
            return [None] * len(drawn)
        painting = Painting(models.classes.labels, frozenset(painted), alpha)
        return _written(look, view, painting, scratch)

    def step(by: int, given: Sequence[Given], number: int | None) -> int | None:
        return (number + by) % len(given) if given and number is not None else None

    def follow(event: Any) -> None:
        event.then(see, [given, choice, view], [look, view, said, shares], **ONE_AT_A_TIME).then(
            draw, [look, view, painted, alpha], drawn, **QUIET
        ).then(**correcting, **QUIET)

    notes = gr.Markdown(elem_id="notes")
    for event in (pictures.upload, pictures.clear, masks.upload, masks.clear):
        follow(event(take, [pictures, masks], [given, choice, notes], **QUIET))
    follow(folder.upload(take, [folder, masks], [given, choice, notes], **QUIET))
    follow(choice.input(lambda: None, **QUIET))
    for button, by in ((before, -1), (after, 1)):
        follow(button.click(partial(step, by), [given, choice], choice, **QUIET))
    for event in (view.input, painted.change, alpha.release):
        event(draw, [look, view, painted, alpha], drawn, **QUIET).then(**correcting, **QUIET)


def _written(look: Look, view: str, painting: Painting, scratch: Path) -> list[str]:
    """Files of what is shown of each model, twice: to be seen, and to be downloaded; between them those of ids."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    stem = look.given.picture.stem
    shown, ids = [], []
    for number, prediction in enumerate(look.predictions):
        own = folder / str(number)
        shown.append(str(own / f"{stem}_{'overlay' if view == 'Classes' else view.lower()}.png"))
        ids.append(str(own / f"{stem}{DRAWINGS['ids'].ending}"))
        with atomic_write(shown[-1]) as path:
            VIEWS[view].draw(look, number, painting).save(path)
        (seen,) = prediction.save(own / stem, "ids")
        assert str(seen) == ids[-1]
    return [*shown, *ids, *shown]


def _correcting(
    models: Models, corrections: Corrections, look: gr.State, alpha: gr.Slider, painted: gr.CheckboxGroup
) -> dict[str, Any]:
    """What is painted with and saved; gives the step that shows the labels of a look, as an event takes it."""
    labels = models.labels
    drafts = gr.State({})  # by picture, of those that were painted on
    choices = [*((name, n) for n, name in enumerate(labels.classes)), ("no class", VOID), ("as predicted", AS_PREDICTED)]
    with gr.Row():
        class_id = gr.Dropdown(choices, value=0, label="Paint", elem_id="class")
        radius = gr.Slider(1, 100, 12, step=1, label="Radius of the brush, pixels", elem_id="radius")
    sheet = gr.HTML(
        "",
        html_template='<div class="sheet">${value ? `<img alt="labels" draggable="false" src="${value}">` : ""}</div>',
        js_on_load=(files("kerbseg.page") / "brush.js").read_text(encoding="utf-8"),
        elem_id="brush",
        color=_brush_color(models, 0),
        radius=12,
    )
    with gr.Row():
        undo = gr.Button("Undo", size="sm", elem_id="undo")
        save = gr.Button("Save as training data", variant="primary", size="sm", elem_id="save")
        replace = gr.Checkbox(label="Replace a mask that is there", elem_id="replace")
    said = gr.Markdown(f"Saved into `{corrections.folder}`.", elem_id="saved")

    def now(look: Look, drafts: dict[Path, Draft]) -> Draft:
        return drafts.get(look.given.picture) or Draft.of(look.predictions[0].ids)

    def show(look: Look | None, drafts: dict[Path, Draft], painted: Sequence[str], alpha: float) -> str:
        if look is None:
            return ""
        ids = models.classes.lookups[0][now(look, drafts).ids]
        pixels = Painting(models.classes.labels, frozenset(painted), alpha).paint(look.picture, ids, names=False)
        return data_uri(thumbnail(np.asarray(pixels), max(pixels.size)))

    def paint(look: Look | None, drafts: dict[Path, Draft], train_id: int, event: gr.EventData) -> tuple[Any, str]:
        if look is None:
            return drafts, ""
        with told():
            where = Stroke.parse(event.points, event.radius).covers(look.picture.shape[:2])
        draft = now(look, drafts).painted(where, None if train_id == AS_PREDICTED else train_id)
        return {**drafts, look.given.picture: draft}, f"{draft.changed} pixels are not as predicted"

    def take_back(look: Look | None, drafts: dict[Path, Draft]) -> tuple[Any, str]:
        if look is None:
            return drafts, ""
        draft = now(look, drafts).undone()
        return {**drafts, look.given.picture: draft}, f"{draft.changed} pixels are not as predicted"

    def keep(look: Look | None, drafts: dict[Path, Draft], replace: bool) -> str:
        with told():
            if look is None:
                raise KerbsegError("there is no picture whose labels could be saved; give one under Pictures")
            saved = corrections.save(look.given.picture, now(look, drafts).ids, look.given.name, replace)
        return f"saved `{saved.mask}`; {len(corrections)} in all. To learn from them: `kerbseg train own --data {corrections.folder}`"

    state = [look, drafts]
    showing: dict[str, Any] = {"fn": show, "inputs": [*state, painted, alpha], "outputs": sheet}
    sheet.stroke(paint, [*state, class_id], [drafts, said], **QUIET).then(**showing, **QUIET)
    undo.click(take_back, state, [drafts, said], **QUIET).then(**showing, **QUIET)
    save.click(keep, [*state, replace], said, **QUIET)
    class_id.input(lambda train_id: gr.HTML(color=_brush_color(models, train_id)), class_id, sheet, **QUIET)
    radius.input(lambda radius: gr.HTML(radius=radius), radius, sheet, **QUIET)
    return showing


def _brush_color(models: Models, train_id: int) -> str:
    """The color of a brush, as a style sheet has it: that of its class, white for what is none."""
    return css_colors(models.labels)[train_id] if 0 <= train_id < len(models.labels) else "white"


def _video(models: Models, scratch: Path, alpha: gr.Slider, painted: gr.CheckboxGroup) -> None:
    given = gr.File(label="Video", height=120, elem_id="video")
    model = _which(models)
    with gr.Row():
        start = gr.Button("Segment", variant="primary", size="sm", elem_id="start")
        end = gr.Button("Stop", size="sm", elem_id="stop")
    result = gr.Video(label="Overlay", interactive=False, elem_id="film")
    said = gr.Markdown(elem_id="film-said")
    stops: dict[str, threading.Event] = {}  # by session, of the video that is under way

    def run(
        path: str | None, name: str, painted: Sequence[str], alpha: float, request: gr.Request, progress: Any = gr.Progress()
    ) -> tuple[str, str]:
        with told():
            if path is None:
                raise KerbsegError("there is no video; give one above")
            number, stop = models.names.index(name), threading.Event()
            stops[str(request.session_hash)] = stop
            report, note = segment(
                Path(path),
                Path(tempfile.mkdtemp(dir=scratch)),
                models.predictors[number],
                Painting(models.classes.labels, frozenset(painted), alpha),
                models.classes.lookups[number],
                lambda done, total: progress((done, total or None), unit="frames"),
                stop,
            )
        line = str(report).replace(str(report.targets[0]), report.targets[0].name)
        return str(report.targets[0]), "  \n".join(map(escape, filter(None, [line, note])))

    def halt(request: gr.Request) -> None:
        if stop := stops.get(str(request.session_hash)):
            stop.set()

    start.click(run, [given, model, painted, alpha], [result, said], **ONE_AT_A_TIME)
    end.click(halt, queue=False, **QUIET)


def _camera(models: Models, alpha: gr.Slider, painted: gr.CheckboxGroup) -> None:
    model = _which(models)
    with gr.Row():
        camera = gr.Image(sources=["webcam"], streaming=True, type="numpy", label="Camera", elem_id="camera")
        result = gr.Image(label="Overlay", interactive=False, elem_id="live")

    def see(frame: UInt8[np.ndarray, "h w 3"] | None, name: str, painted: Sequence[str], alpha: float) -> Any:
        if frame is None:
            return None
        number = models.names.index(name)
        with told():
            ids = models.predictors[number](frame, channels="rgb").ids
        painting = Painting(models.classes.labels, frozenset(painted), alpha)
        return painting.paint(frame, models.classes.lookups[number][ids])

    live: dict[str, Any] = {**ONE_AT_A_TIME, "show_progress": "hidden"}
    camera.stream(see, [camera, model, painted, alpha], result, stream_every=0.2, time_limit=None, **live)


def _which(models: Models) -> gr.Radio:
    """Which model looks; not shown where there is one."""
    return gr.Radio(list(models.names), value=models.names[0], label="Model", visible=len(models.names) > 1)


def theme() -> gr.themes.Base:
    """Gradio's default with fonts that every system has, so that none is loaded."""
    return gr.themes.Default(primary_hue="teal", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
