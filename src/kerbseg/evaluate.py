"""`evaluate(runtime, dataset)`: a report whose figures carry their protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import UInt8

from kerbseg.bundle import versions
from kerbseg.core.errors import BundleError, DataError, UserError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Dataset, Sample
from kerbseg.metrics import Metrics, compute_metrics, confusion_metric
from kerbseg.runtime import InputSizePolicy, Runtime, network_size, segment

if TYPE_CHECKING:
    from rich.table import Table

TTA = Literal["none", "flip"]
Sink = Callable[[Sample, UInt8[np.ndarray, "h w"]], None]  # takes each sample and its predicted ids


class UnlabelledError(DataError):
    """A split without labels: its predictions can be submitted, not scored."""


@dataclass(frozen=True)
class Report:
    """Scores, the number of pictures behind them, how they were made, and the time it took."""

    scores: Metrics
    images: int
    protocol: Mapping[str, Any]
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg evaluate --json` writes it."""
        found = self.scores
        return {
            "miou": found.miou,
            "class_iou": dict(found.class_iou),
            "pixel_accuracy": found.pixel_accuracy,
            "mean_accuracy": found.mean_accuracy,
            "category_miou": found.category_miou,
            "category_iou": None if found.category_iou is None else dict(found.category_iou),
            "images": self.images,
            "confusion": found.confusion.tolist(),
            "protocol": dict(self.protocol),
        }


def evaluate(
    runtime: Runtime,
    dataset: Dataset,
    *,
    limit: int | None = None,
    tta: TTA = "none",
    input_size: InputSizePolicy = "trained",
    sink: Sink | None = None,
    progress: Callable[[range], Any] = iter,
) -> Report:
    """Scores of a runtime on a split, from one confusion matrix over the whole set, at the labels' own size.

    Raises BundleError where the model's classes are not the data set's, DataError for a split without labels.
    """
    check_classes(runtime, dataset)
    if tta not in get_args(TTA):
        raise UserError(f"unknown tta {tta!r}; {did_you_mean(tta, get_args(TTA))}")
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}; give at least 1 picture, or leave it out")
    predictor = _with_tta(runtime, tta)
    metric = confusion_metric(len(dataset.labels))
    count = min(limit or len(dataset), len(dataset))
    label_sizes, input_sizes = set(), set()
    start = time.monotonic()
    for index in progress(range(count)):
        sample = dataset[index]
        ids = segment(predictor, sample.image, input_size)
        metric.update(torch.from_numpy(ids)[None].long(), torch.from_numpy(sample.mask)[None].long())
        size = (sample.mask.shape[0], sample.mask.shape[1])
        label_sizes.add(size)
        input_sizes.add(network_size(size, runtime, input_size))
        if sink is not None:
            sink(sample, ids)
    confusion = metric.compute()
    if not confusion.sum():
        raise UnlabelledError(
            f"split {dataset.split!r} of {dataset.name!r} has no labels to score against; choose another split"
        )
    protocol = {
        "data": dataset.name,
        "split": dataset.split,
        "limit": limit,  # null: the whole split
        "label_size": _only(label_sizes),
        "input_size": _only(input_sizes),
        "tta": tta,
        "runtime": runtime.name,
        "precision": runtime.precision,
        "device": str(getattr(runtime, "device", "cpu")),
        "model": runtime.card.model,
        "versions": versions(),
    }
    return Report(compute_metrics(confusion, dataset.labels), count, protocol, time.monotonic() - start)


def check_classes(runtime: Runtime, dataset: Dataset) -> None:
    """Raises BundleError where a model's classes are not those of the data set, in order."""
    theirs, ours = runtime.card.labels, dataset.labels
    if theirs.classes != ours.classes:
        raise BundleError(
            f"the model knows {_describe(theirs)}, data set {dataset.name!r} has {_describe(ours)}"
            f"{_first_difference(theirs, ours)}; evaluate on a data set of its classes, or train on this one"
        )


def _describe(labels: LabelSet) -> str:
    return f"{len(labels)} classes of {labels.name!r}"


def _first_difference(theirs: LabelSet, ours: LabelSet) -> str:
    for index, (one, other) in enumerate(zip(theirs.classes, ours.classes, strict=False)):
        if one != other:
            return f"; class {index} is {one!r} there and {other!r} here"
    return ""


def _with_tta(runtime: Runtime, tta: TTA) -> Runtime:
    if tta == "none":
        return runtime
    from kerbseg.runtime.torch import FlipAveraged, TorchRuntime

    if not isinstance(runtime, TorchRuntime):
        raise UserError(f"--tta flip averages probabilities, which {runtime.name} does not give; evaluate the bundle")
    return FlipAveraged(runtime)


def _only(sizes: set[tuple[int, int]]) -> list[int] | str:
    return list(next(iter(sizes))) if len(sizes) == 1 else "mixed"


def render_table(report: Report) -> Table:
    """IoU class by class, for a terminal."""
    from rich.table import Table

    found, how = report.scores, report.protocol
    size = how["label_size"] if isinstance(how["label_size"], str) else "x".join(map(str, how["label_size"]))
    table = Table(
        "class",
        "IoU",
        title=f"{how['model']} on {how['data']} {how['split']}: {report.images} pictures",
        min_width=66,  # lest title and caption are broken into many lines
        caption=f"labels at {size} (HxW), TTA {how['tta']}, {how['runtime']} {how['precision']} on {how['device']},"
        f" {report.elapsed_s:.0f} s",
    )
    for name, value in found.class_iou.items():
        table.add_row(name, _figure(value))
    table.add_section()
    table.add_row("mIoU", _figure(found.miou), style="bold")
    if found.category_miou is not None:
        table.add_row("category mIoU", _figure(found.category_miou))
    table.add_row("pixel accuracy", _figure(found.pixel_accuracy))
    table.add_row("mean class accuracy", _figure(found.mean_accuracy))
    return table


def _figure(value: float | None) -> str:
    return "absent" if value is None else f"{value:.4f}"
