"""`evaluate(runtime, dataset)`: a report whose figures carry their protocol."""

from __future__ import annotations

import math
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torchmetrics.classification import MulticlassConfusionMatrix

import kerbseg
from kerbseg.bundle import Bundle, versions
from kerbseg.core.errors import BundleError, DataError, KerbsegError, KerbsegWarning, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID, Dataset, Sample
from kerbseg.data.corrupt import SOURCE, chosen, corrupt_picture
from kerbseg.data.drives import drives_of
from kerbseg.metrics import Metrics, compute_metrics, confusion_metric
from kerbseg.metrics.calibration import Reliability, ReliabilityCounter
from kerbseg.metrics.corruptions import CorruptionScores
from kerbseg.metrics.details import DetailCounter, Details
from kerbseg.metrics.risk import Kept, KeptCounter, RiskCounter, RiskCoverage, doubts
from kerbseg.metrics.text import TextReport
from kerbseg.runtime import (
    ConfidenceMeasure,
    Fit,
    IdsOnly,
    InputSizePolicy,
    Runtime,
    network_size,
    open_runtime,
    segment,
    segment_with_logits,
)
from kerbseg.runtime.checks import checked_measure
from kerbseg.text_evaluation import text_counter

TTA = Literal["none", "flip", "flip_scales"]
TTA_SCALES = (0.75, 1.0, 1.25)  # of flip_scales
By = Literal["drive"]
PredictionCallback = Callable[[Sample, UInt8[np.ndarray, "h w"]], None]  # takes each sample and its predicted ids
CorruptedCallback = Callable[[str, Sample, UInt8[np.ndarray, "h w"]], None]  # corruption, corrupted sample, its ids


class UnlabelledError(DataError):
    """A split without labels: its predictions can be submitted, not measured."""


@dataclass(frozen=True)
class Subset:
    """Metrics of some of the pictures, and how many these are."""

    metrics: Metrics
    images: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in what a report writes; a figure that nothing was measured for is null."""
        metrics = self.metrics
        return {
            "miou": None if math.isnan(metrics.miou) else metrics.miou,
            "class_iou": dict(metrics.class_iou),
            "pixel_accuracy": metrics.pixel_accuracy,
            "images": self.images,
        }


@dataclass(frozen=True)
class Report:
    """Metrics, the number of pictures behind them, how they were measured, and the time it took."""

    metrics: Metrics
    images: int
    protocol: Mapping[str, Any]
    elapsed_s: float
    drives: Mapping[str, Subset] | None = None  # where they were asked for
    details: Details | None = None  # likewise
    corruptions: CorruptionScores | None = None  # likewise
    reliability: Reliability | None = None  # likewise, where the runtime tells more than ids
    text: TextReport | None = None  # where the classes are background and text
    risk: RiskCoverage | None = None  # as `reliability`
    kept: Kept | None = None  # where unsure pixels are unknown

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg evaluate --json` writes it."""
        metrics = self.metrics
        drives = None if self.drives is None else {name: subset.to_dict() for name, subset in self.drives.items()}
        return {
            "miou": metrics.miou,
            "class_iou": dict(metrics.class_iou),
            "pixel_accuracy": metrics.pixel_accuracy,
            "mean_accuracy": metrics.mean_accuracy,
            "category_miou": metrics.category_miou,
            "category_iou": None if metrics.category_iou is None else dict(metrics.category_iou),
            "images": self.images,
            "confusion": metrics.confusion.tolist(),
            "calibration": None if self.reliability is None else self.reliability.to_dict(),
            "risk_coverage": None if self.risk is None else self.risk.to_dict(),
            "protocol": dict(self.protocol),
            **({} if drives is None else {"drives": drives}),
            **({} if self.details is None else self.details.to_dict()),
            **({} if self.corruptions is None else {"corruptions": self.corruptions.to_dict()}),
            **({} if self.kept is None else {"unknown": self.kept.to_dict()}),
            **({} if self.text is None else {"iou_text": self.text.own.iou, "text": self.text.to_dict()}),
        }


def evaluate(
    model: str | Path | Bundle | Runtime,
    dataset: Dataset,
    *,
    limit: int | None = None,
    tta: TTA = "none",
    by: By | None = None,
    details: bool = False,
    calibration: bool = False,
    input_size: InputSizePolicy = "trained",
    fit: Fit = "letterbox",
    corrupt: str | Sequence[str] | None = None,
    severity: int | None = None,
    unknown: float | None = None,
    measure: ConfidenceMeasure = "probability",
    on_prediction: PredictionCallback | None = None,
    on_corrupted: CorruptedCallback | None = None,
    progress: Callable[[range], Any] = iter,
) -> Report:
    """mIoU, IoU of each class and accuracies on a split, from one confusion matrix at the labels' own size.

    The model is what `open_runtime` takes, or a runtime. `by` adds the metrics of each drive, from a matrix of its own;
    a class that it lacks is left out of its mean. `details` adds where it errs: boundary IoU, mIoU by distance to the
    border, IoU by the size of regions, and the worst pictures. `calibration` adds how far its confidence can be
    believed, at the temperature of its card and without, and how many errors are left where it is sure, by `measure`;
    for a runtime that gives ids alone there is a warning instead. `unknown` adds the metrics of the pixels whose
    confidence is at least that, and their share; a runtime that gives ids alone raises IdsOnly, then.
    `corrupt` adds the mIoU on corrupted pictures (`kerbseg.data.corrupt`), each drawn from its name, so that every
    network sees the same: kinds and groups, as a list or between commas, at a `severity` of 1 to 5 (3). All else is of
    the pictures as they are. Raises BundleError where the model's classes are not the data set's, DataError for a split
    without labels.
    """
    if not hasattr(dataset, "labels"):
        raise KerbsegError(
            f"evaluate takes an opened data set, not {dataset!r}; open it: kerbseg.data.open_dataset(NAME, SPLIT)"
        )
    kinds, severity = chosen(corrupt, severity)
    runtime = open_runtime(model)
    check_request(runtime, dataset, tta, limit, by)
    drives = drives_of(dataset.names) if by == "drive" else None
    checked_measure(measure)
    if unknown is not None and not 0 < unknown <= 1:
        raise KerbsegError(f"unknown is {unknown:g}; give a confidence above 0 and at most 1, such as 0.5")
    predictor = with_tta(runtime, tta)
    confusions: defaultdict[str, MulticlassConfusionMatrix] = defaultdict(lambda: confusion_metric(len(dataset.labels)))
    corrupted = {kind: confusion_metric(len(dataset.labels)) for kind in kinds}
    detail_counter = DetailCounter(dataset.labels) if details else None
    temperature = runtime.card.temperature
    reliability = ReliabilityCounter(temperature) if calibration else None
    risk = RiskCounter(measure) if calibration else None
    kept = None if unknown is None else KeptCounter(unknown, measure, dataset.labels)
    text = text_counter(predictor, dataset, input_size, fit)
    images: Counter[str] = Counter()
    count = min(limit or len(dataset), len(dataset))
    label_sizes, input_sizes = set(), set()
    start = time.monotonic()
    for index in progress(range(count)):
        sample = dataset[index]
        try:
            ids = _segment(predictor, sample, input_size, fit, _Counters(temperature, measure, reliability, risk, kept))
        except IdsOnly as error:
            if kept is not None:
                raise
            warnings.warn(KerbsegWarning(f"calibration is not measured: {error}"), stacklevel=2)
            reliability = risk = None
            ids = segment(predictor, sample.image, input_size, fit)
        drive = "" if drives is None else drives[index]
        images[drive] += 1
        _count(confusions[drive], ids, sample.mask)
        size = (sample.mask.shape[0], sample.mask.shape[1])
        if detail_counter is not None:
            detail_counter.update(sample.name, ids, sample.mask)
        if text is not None:
            text.update(index, sample, ids)
        label_sizes.add(size)
        input_sizes.add(network_size(size, runtime, input_size))
        if on_prediction is not None:
            on_prediction(sample, ids)
        for kind, confusion_of in corrupted.items():
            changed = sample._replace(image=corrupt_picture(sample.image, kind, severity, sample.name))
            ids = segment(predictor, changed.image, input_size, fit)
            _count(confusion_of, ids, sample.mask)
            if on_corrupted is not None:
                on_corrupted(kind, changed, ids)
    report = label_report(
        runtime,
        dataset,
        {drive: confusion.compute() for drive, confusion in confusions.items()},
        images,
        limit=limit,
        fit=fit,
        tta=tta,
        by=by,
        label_sizes=label_sizes,
        input_sizes=input_sizes,
        elapsed_s=time.monotonic() - start,
    )
    of_kind = {kind: compute_metrics(each.compute(), dataset.labels).miou for kind, each in corrupted.items()}
    package = f"kerbseg {kerbseg.__version__} (kinds and strengths of {SOURCE})"
    return replace(
        report,
        details=None if detail_counter is None else detail_counter.compute(),
        reliability=None if reliability is None else reliability.compute(),
        corruptions=CorruptionScores(severity, package, report.metrics.miou, of_kind) if of_kind else None,
        text=None if text is None else text.compute(),
        risk=None if risk is None else risk.compute(),
        kept=None if kept is None else kept.compute(),
    )


def check_request(runtime: Runtime, dataset: Dataset, tta: TTA, limit: int | None, by: By | None) -> None:
    """Raises KerbsegError for what `evaluate` does not take, BundleError where classes are not the data set's."""
    check_classes(runtime, dataset)
    if tta not in get_args(TTA):
        raise KerbsegError(f"unknown tta {tta!r}; {did_you_mean(tta, get_args(TTA))}")
    if limit is not None and limit < 1:
        raise KerbsegError(f"limit is {limit}; give at least 1 picture, or leave it out")
    if by is not None and by not in get_args(By):
        raise KerbsegError(f"unknown by {by!r}; {did_you_mean(by, get_args(By))}")


def picture_confusion(
    runtime: Runtime, sample: Sample, classes: int, fit: Fit = "letterbox"
) -> Int[torch.Tensor, "k k"]:
    """The confusion matrix of one picture: rows the truth, columns the prediction, in pixels."""
    confusion = confusion_metric(classes)
    _count(confusion, segment(runtime, sample.image, "trained", fit), sample.mask)
    return confusion.compute()


def label_report(
    runtime: Runtime,
    dataset: Dataset,
    confusions: Mapping[str, Int[torch.Tensor, "k k"]],
    images: Mapping[str, int],
    *,
    limit: int | None,
    fit: Fit,
    tta: TTA,
    by: By | None,
    label_sizes: set[tuple[int, int]],
    input_sizes: set[tuple[int, int]],
    elapsed_s: float,
) -> Report:
    """The report of confusions and numbers of pictures, by drive (all under one name without `by`).

    Raises UnlabelledError where no pixel has a label.
    """
    of_drive = {drive: confusions[drive] for drive in sorted(confusions)}
    confusion = torch.stack(list(of_drive.values())).sum(0)
    if not confusion.sum():
        raise UnlabelledError(
            f"split {dataset.split!r} of {dataset.name!r} has no labels to compare with; choose another split"
        )
    protocol = {
        "data": dataset.name,
        "split": dataset.split,
        "limit": limit,  # null: the whole split
        "label_size": _only(label_sizes),
        "input_size": _only(input_sizes),
        "fit": fit,
        "tta": tta,
        "runtime": runtime.name,
        "precision": runtime.precision,
        "device": runtime.device,
        "model": runtime.card.model,
        "versions": versions(),
    }
    subsets = {name: Subset(compute_metrics(each, dataset.labels), images[name]) for name, each in of_drive.items()}
    return Report(
        compute_metrics(confusion, dataset.labels),
        sum(images.values()),
        protocol,
        elapsed_s,
        drives=subsets if by == "drive" else None,
    )


def _count(confusion: MulticlassConfusionMatrix, ids: UInt8[np.ndarray, "h w"], mask: UInt8[np.ndarray, "h w"]) -> None:
    confusion.update(torch.from_numpy(ids)[None].long(), torch.from_numpy(mask)[None].long())


@dataclass(frozen=True)
class _Counters:
    """What counts labelled pixels by how sure the network is of them."""

    temperature: float | None
    measure: ConfidenceMeasure
    reliability: ReliabilityCounter | None
    risk: RiskCounter | None
    kept: KeptCounter | None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.reliability, self.risk, self.kept))

    def update(
        self, logits: Float[torch.Tensor, "k n"], ids: UInt8[np.ndarray, " n"], truth: UInt8[np.ndarray, " n"]
    ) -> None:
        if self.reliability is not None:
            self.reliability.update(logits, truth)
        if self.risk is None and self.kept is None:
            return
        doubt = doubts(logits, self.temperature, self.measure)
        if self.risk is not None:
            self.risk.update(doubt, ids != truth)
        if self.kept is not None:
            self.kept.update(doubt, ids, truth)


def _segment(
    runtime: Runtime, sample: Sample, input_size: InputSizePolicy, fit: Fit, counters: _Counters
) -> UInt8[np.ndarray, "h w"]:
    """The ids of a picture, whose labelled pixels are counted where they are asked for. Raises IdsOnly, then."""
    if not counters:
        return segment(runtime, sample.image, input_size, fit)
    ids, logits_of = segment_with_logits(runtime, sample.image, input_size, fit)
    known = sample.mask != VOID
    counters.update(logits_of(known), ids[known], sample.mask[known])
    return ids


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


def with_tta(runtime: Runtime, tta: TTA) -> Runtime:
    """The runtime, which averages over changed pictures where that is asked for. KerbsegError where it cannot."""
    if tta == "none":
        return runtime
    from kerbseg.runtime.torch import FlipAveraged, TorchRuntime

    if not isinstance(runtime, TorchRuntime):
        raise KerbsegError(
            f"--tta {tta} averages probabilities, which {runtime.name} does not give; evaluate the bundle"
        )
    return FlipAveraged(runtime, TTA_SCALES if tta == "flip_scales" else (1.0,))


def _only(sizes: set[tuple[int, int]]) -> list[int] | str:
    return list(next(iter(sizes))) if len(sizes) == 1 else "mixed"
