"""The whole story on drawn street scenes, nothing downloaded: check, train, evaluate, predict, report."""

from __future__ import annotations

import base64
import csv
import io
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from PIL import Image

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, versions
from kerbseg.core.errors import MissingExtra, UserError
from kerbseg.core.files import replacing
from kerbseg.core.types import Dataset, Prediction
from kerbseg.data import open_dataset
from kerbseg.data.doctor import examine_all, render
from kerbseg.evaluate import Report, evaluate, render_table
from kerbseg.predict.draw import colorize, confusion_picture, overlay
from kerbseg.predict.predictor import saving
from kerbseg.runtime.torch import TorchRuntime
from kerbseg.train.recipe import Recipe, read

RECIPE = "smoke/scenes"
SHOWN = 5  # unseen scenes in the report


def run(out: Path, minutes: float) -> Path:
    """Runs the demo and returns the path of its report. Raises UserError for less than a quarter of a minute."""
    from rich.console import Console

    if minutes < 0.25:
        raise UserError(f"minutes is {minutes}; training takes at least 0.25")
    say = Console().print
    try:
        from kerbseg.train.fit import fit
    except ImportError as error:
        raise MissingExtra(str(error.name), "train") from error

    recipe = read(RECIPE)
    splits = {split: open_dataset(recipe.data.name, split) for split in ("train", "val", "test")}
    say("[bold]1. The data[/]: street scenes, drawn now")
    say(render(examine_all(recipe.data.name, splits=["test"])))

    recipe = fitted_to(minutes, recipe, len(splits["train"]))
    folder = unused(out / "run")
    say(f"[bold]2. The training[/]: {recipe.epochs} epochs, about {minutes:g} minutes, into {folder}")
    start = time.monotonic()
    bundle = fit(recipe, folder, device="cpu")
    seconds = time.monotonic() - start

    say("[bold]3. Before and after[/], on scenes it has never seen")
    before = evaluate(TorchRuntime(untrained(bundle.card, recipe.seed)), splits["test"])
    sink = saving(out / "predictions", bundle.card.labels)
    after = evaluate(TorchRuntime(bundle), splits["test"], sink=sink)
    say(render_table(after))
    say(f"mIoU before training {before.scores.miou:.4f}, after {after.scores.miou:.4f}")

    page = report(bundle, recipe, splits, before, after, folder, seconds)
    with replacing(out / "report.html") as temporary:
        temporary.write_text(page)
    return out / "report.html"


def fitted_to(minutes: float, recipe: Recipe, pictures: int) -> Recipe:
    """The recipe with as many epochs as this machine trains in that time, measured on a few steps."""
    per_epoch = pictures // recipe.batch_size
    stretches = [(z.until, z.crop) for z in recipe.augment.zooms] or [(1.0, recipe.augment.crop or (256, 512))]
    share_before = [0.0, *(until for until, _ in stretches)]
    mean_step = sum(
        (until - since) * step_seconds(recipe, crop)
        for (until, crop), since in zip(stretches, share_before, strict=False)
    )
    epochs = max(2, int(minutes * 60 / (mean_step * per_epoch)))
    return read(RECIPE, [f"epochs={epochs}", f"validate_every={max(1, epochs // 6)}"])


def step_seconds(recipe: Recipe, crop: tuple[int, int]) -> float:
    """Time of one training step at this size, the faster of two after a warm-up."""
    net = models.channels_last(models.create_model(recipe.model.name, **recipe.model.options))
    picture = torch.rand(recipe.batch_size, 3, *crop).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(3):
        start = time.monotonic()
        net(picture).logsumexp(1).mean().backward()
        times.append(time.monotonic() - start)
    return 1.15 * min(times[1:])  # augmentation, optimiser and validation take the rest


def untrained(card: BundleCard, seed: int) -> Bundle:
    """The network as it was before its first step."""
    torch.manual_seed(seed)
    return Bundle(models.create_model(card.model, card.outputs, **card.options).eval(), card)


def unused(folder: Path) -> Path:
    """The folder, or the same with the first number that is free: an earlier demo is not overwritten."""
    number = 2
    candidate = folder
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}{number}")
        number += 1
    return candidate


def report(
    bundle: Bundle,
    recipe: Recipe,
    splits: Mapping[str, Dataset],
    before: Report,
    after: Report,
    folder: Path,
    seconds: float,
) -> str:
    """A page that needs no other file."""
    train, test = splits["train"], splits["test"]
    rows = [_row(bundle, test, index) for index in np.linspace(0, len(test) - 1, SHOWN).astype(int)]
    labels = bundle.card.labels
    classes = [
        {
            "name": name,
            "color": color,
            "before": _figure(before.scores.class_iou[name]),
            "after": _figure(after.scores.class_iou[name]),
        }
        for name, color in zip(labels.classes, labels.colors, strict=True)
    ]
    template = jinja2.Environment(loader=jinja2.PackageLoader("kerbseg", "apps"), autoescape=True)
    return template.get_template("report.html.j2").render(
        card=bundle.card,
        parameters=sum(p.numel() for p in bundle.model.parameters()),
        train_seconds=seconds,
        before=before.scores,
        after=after.scores,
        images=after.images,
        protocol=after.protocol,
        machine=f"{torch.get_num_threads()} threads of {platform.machine()}",
        train_count=len(train),
        val_count=len(splits["val"]),
        examples=[_inline(train[i].image.transpose(1, 2, 0)) for i in range(3)],
        epochs=recipe.epochs,
        rate=recipe.epochs * len(train) / seconds,
        run=folder,
        curve=_curve(folder / "metrics.csv"),
        rows=rows,
        classes=classes,
        confusion=_inline(np.asarray(confusion_picture(after.scores, labels))),
        versions=versions(),
    )


def _row(bundle: Bundle, dataset: Dataset, index: int) -> list[str]:
    """One scene: the picture, the truth, the prediction over the picture."""
    sample = dataset[int(index)]
    picture = sample.image.transpose(1, 2, 0)
    ids = TorchRuntime(bundle)(picture[None])[0]
    drawn = overlay(picture, Prediction(ids, bundle.card.labels), alpha=0.65, legend=False)
    return [_inline(picture), _inline(colorize(sample.mask, bundle.card.labels)), _inline(np.asarray(drawn))]


def _inline(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(iou: float | None) -> str:
    return "absent" if iou is None or math.isnan(iou) else f"{iou:.3f}"


def _curve(metrics: Path) -> Any:
    """Loss and validation mIoU by epoch, as an SVG inside the page."""
    from markupsafe import Markup
    from matplotlib.figure import Figure

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot(left, rows, "loss", "training loss")
    _plot(right, rows, "val_miou", "validation mIoU")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    return Markup(svg[svg.index("<svg") :])


def _plot(axes: Any, rows: Sequence[Mapping[str, str]], column: str, title: str) -> None:
    points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color="#2f6fb3")
    axes.set(title=title, xlabel="epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
