"""Metrics from one confusion matrix over a whole data set; equal to the public Cityscapes scripts.

torchmetrics holds the state and synchronizes it between processes; the formulas are here, because its mean IoU
averages over pictures and refuses VOID.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kerbseg.core.errors import DataError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassConfusionMatrix


def confusion_metric(classes: int) -> MulticlassConfusionMatrix:
    """Counts pixels: `update(ids, mask)`; `compute()` gives int64 [k k], rows the truth, columns the prediction.

    Raises DataError for fewer than two classes, of which nothing can be told apart.
    """
    if classes < 2:
        raise DataError(f"{classes} class cannot be told from anything; add one for the rest, such as 'background'")
    from torchmetrics.classification import MulticlassConfusionMatrix  # seconds, which prediction does not need

    return MulticlassConfusionMatrix(classes, ignore_index=VOID, validate_args=False)


@dataclass(frozen=True)
class Metrics:
    """Fractions in 0..1; None for a class or category absent from both labels and predictions."""

    miou: float
    class_iou: Mapping[str, float | None]
    pixel_accuracy: float
    mean_accuracy: float
    category_miou: float | None
    category_iou: Mapping[str, float | None] | None
    confusion: Int[Tensor, "k k"]


def iou(confusion: Int[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """Intersection over union of each class; NaN for one absent from both labels and predictions."""
    confusion = confusion.double()
    hits = confusion.diagonal()
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def accuracy(confusion: Int[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """Fraction of each class's pixels that are recognized; NaN for one absent from the labels."""
    confusion = confusion.double()
    return confusion.diagonal() / confusion.sum(1)


def by_category(confusion: Int[Tensor, "k k"], labels: LabelSet) -> Int[Tensor, "c c"]:
    """Confusion between categories: mistaking a car for a bus is none."""
    members = [[labels.classes.index(name) for name in names] for names in labels.categories.values()]
    rows = torch.stack([confusion[member].sum(0) for member in members])
    return torch.stack([rows[:, member].sum(1) for member in members], dim=1)


def compute_metrics(confusion: Int[Tensor, "k k"], labels: LabelSet) -> Metrics:
    """All metrics of a confusion matrix; means leave out what is absent."""
    confusion = confusion.cpu().long()
    each = iou(confusion)
    category = iou(by_category(confusion, labels)) if labels.categories else None
    return Metrics(
        miou=float(each.nanmean()),
        class_iou=_named(labels.classes, each),
        pixel_accuracy=float(confusion.diagonal().sum() / confusion.sum().clamp(min=1)),
        mean_accuracy=float(accuracy(confusion).nanmean()),
        category_miou=None if category is None else float(category.nanmean()),
        category_iou=None if category is None else _named(labels.categories, category),
        confusion=confusion,
    )


def _named(names: Iterable[str], values: Tensor) -> dict[str, float | None]:
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if math.isnan(value) else value for name, value in pairs}
