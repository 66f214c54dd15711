"""The demo's page, which needs no other file, and its sheet of unseen scenes."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from kerbseg.apps.deployment import Deployment
from kerbseg.apps.html import display_colors, render
from kerbseg.bundle import Bundle, versions
from kerbseg.core.display import display_palette
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.data.pictures import read_rgb
from kerbseg.evaluate import Report
from kerbseg.predict.draw import blend_overlay, confusion_picture
from kerbseg.predict.prediction import ENDINGS
from kerbseg.predict.predictor import Predictor
from kerbseg.profiling.latency import Skipped
from kerbseg.profiling.machine import busy, processor_name
from kerbseg.runtime.torch import TorchRuntime

SHOWN = 5  # unseen scenes on the page
SHEET, COLUMN_PX, GAP_PX = 3, 400, 8  # scenes on the sheet, their width, and the space between them

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Trained:
    """What the training gave."""

    bundle: Bundle
    folder: Path
    epochs: int
    seconds: float
    before: Report  # on scenes it has never seen
    after: Report


@dataclass(frozen=True)
class Shipped:
    """Weights that come with kerbseg, and what they made of one drawn scene."""

    name: str
    predictor: Predictor
    picture: Path
    predictions: Path

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Its card's figures on the test split that it was evaluated on."""
        metrics: Mapping[str, Any] = self.predictor.runtime.card.scores["test"]
        return metrics


@dataclass(frozen=True)
class Scene:
    """One scene as the page and the sheet show it."""

    picture: Pixels
    truth: Pixels
    prediction: Pixels  # colors of classes
    truth_over: Pixels  # the same over the picture
    over: Pixels


def scenes(bundle: Bundle, dataset: Dataset, number: int) -> list[Scene]:
    """Scenes spread over a split, not chosen."""
    runtime = TorchRuntime(bundle)
    return [_scene(runtime, dataset, int(index)) for index in np.linspace(0, len(dataset) - 1, number)]


def _scene(runtime: TorchRuntime, dataset: Dataset, index: int) -> Scene:
    sample = dataset[index]
    picture = sample.image
    both = (sample.mask, runtime(picture[None])[0])
    truth, predicted = (display_palette(dataset.labels)[ids] for ids in both)
    return Scene(picture, truth, predicted, *(blend_overlay(picture, ids, dataset.labels, 0.65) for ids in both))


def sheet(shown: Sequence[Scene]) -> Image.Image:
    """Scenes side by side; below each other the pictures, the truths and the predictions."""
    rows = [[getattr(scene, name) for scene in shown] for name in ("picture", "truth", "prediction")]
    height = round(COLUMN_PX * rows[0][0].shape[0] / rows[0][0].shape[1])
    across, down = COLUMN_PX + GAP_PX, height + GAP_PX
    drawn = Image.new("RGB", (len(shown) * across - GAP_PX, len(rows) * down - GAP_PX), "white")
    for y, (row, how) in enumerate(zip(rows, ("LANCZOS", "NEAREST", "NEAREST"), strict=True)):
        for x, pixels in enumerate(row):
            small = Image.fromarray(pixels).resize((COLUMN_PX, height), Image.Resampling[how])
            drawn.paste(small, (x * across, y * down))
    return drawn


def page(
    trained: Trained,
    splits: Mapping[str, Dataset],
    deployment: Deployment,
    shipped: Shipped,
    minutes: float,
    load: float = 0.0,
) -> str:
    """The report as HTML; `minutes` is what the whole demo took until now, `load` the machine's before it."""
    bundle, after, before = trained.bundle, trained.after, trained.before
    train = splits["train"]
    return render(
        "report.html.j2",
        counted=counted,
        skipped=lambda value: isinstance(value, Skipped),
        card=bundle.card,
        parameters=sum(p.numel() for p in bundle.model.parameters()),
        trained=trained,
        minutes=minutes,
        before=before.metrics,
        after=after.metrics,
        images=after.images,
        protocol=after.protocol,
        machine=f"{counted(torch.get_num_threads(), 'thread')} of a processor ({processor_name()})",
        train_count=len(train),
        val_count=len(splits["val"]),
        examples=[_inline(train[i].image) for i in range(3)],
        rate=trained.epochs * len(train) / trained.seconds,
        curves=_curves(trained.folder / "metrics.csv"),
        rows=[
            {
                "picture": _inline(scene.picture),
                "truth": _inline(scene.truth_over),
                "prediction": _inline(scene.over),
            }
            for scene in scenes(bundle, splits["test"], SHOWN)
        ],
        classes=_classes(trained),
        confusion=_inline(np.asarray(confusion_picture(after.metrics, bundle.card.labels))),
        deployment=deployment,
        shipped=shipped,
        shipped_pictures=[
            _inline(read_rgb(path))
            for path in (shipped.picture, shipped.predictions / (shipped.picture.stem + ENDINGS[1]))
        ],
        versions=versions(),
        busy=busy(load, "the demo began"),
    )


def _classes(trained: Trained) -> list[dict[str, Any]]:
    before, after = trained.before.metrics.class_iou, trained.after.metrics.class_iou
    labels = trained.bundle.card.labels
    return [
        {"name": name, "color": color, "before": _figure(before[name]), "after": _figure(after[name])}
        for name, color in zip(labels.classes, display_colors(labels), strict=True)
    ]


def _inline(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(iou: float | None) -> str:
    return "absent" if iou is None or math.isnan(iou) else f"{iou:.3f}"


def _curves(metrics: Path) -> list[Any]:
    """Loss and validation mIoU by epoch, each an SVG that a phone shows at its own size."""
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [_curve(rows, "loss", "training loss"), _curve(rows, "val_miou", "validation mIoU")]


def _curve(rows: Sequence[Mapping[str, str]], column: str, title: str) -> Any:
    from markupsafe import Markup
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color="#2f6fb3")
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    svg = buffer.getvalue()
    named = f'<svg role="img" aria-label="{title} by epoch"'
    return Markup(svg[svg.index("<svg") :].replace("<svg", named, 1))
