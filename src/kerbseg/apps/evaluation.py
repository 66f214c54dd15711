"""The page of `kerbseg evaluate --html`: where a network errs, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from kerbseg.apps.html import data_uri, display_colors, facts, render, thumbnail
from kerbseg.apps.reliability import diagram, risk_curve
from kerbseg.core.labels import Color, LabelSet
from kerbseg.core.types import VOID, Sample
from kerbseg.evaluate import Report
from kerbseg.metrics.borders import DIAGONAL_SHARE
from kerbseg.metrics.details import Lowest, picture_miou
from kerbseg.metrics.regions import SIZES, SMALLEST_PX
from kerbseg.predict.draw import blend_overlay

MISTAKES = 15  # that are listed: a class and what it was taken for
LARGEST_TABLE = 25  # classes whose confusion matrix is a table of figures; that of more is a picture
LEAST = 0.005  # of a class's pixels: what is drawn in the confusion matrix
LEVELS = 10  # shades of that picture
CELL_PX, LONGEST_NAME = 11, 28  # of that picture; characters of its names
CORRUPTED_PX = 240  # longest side of a corrupted picture, of which there are many
WRONG, UNKNOWN = (222, 45, 38), (20, 22, 26)  # colors of error maps

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class that were taken for another, their number, and as a share of all that are compared."""

    truth: str
    prediction: str
    pixels: int
    share: float


@dataclass(frozen=True)
class Shown:
    """One picture as the page shows it: small JPEGs of it, its truth, its prediction and its errors."""

    name: str
    accuracy: float
    mistakes: tuple[Mistake, ...]
    classes: frozenset[int]
    jpegs: Mapping[str, bytes]


class WorstPictures:
    """Keeps the pictures with the lowest mIoU; takes each sample of an evaluation and its predicted ids.

    Only what is kept is drawn, and small: thousands of pictures need no more memory than ten.
    """

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._kept = Lowest[Shown]()

    def __call__(self, sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        """Looks at one picture."""
        miou = picture_miou(ids, sample.mask)
        if self._kept.takes(miou):
            self._kept.add(miou, _draw(sample, ids, self._labels))

    def in_order(self) -> list[tuple[Shown, float]]:
        """The pictures and their mIoU, the lowest first."""
        return self._kept.in_order()


class CorruptedPictures:
    """Keeps the first picture under each corruption, small; takes what an evaluation calls `on_corrupted` with."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self.shown: dict[str, dict[str, bytes]] = {}  # JPEGs by corruption, and by what they show

    def __call__(self, kind: str, sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        """Looks at one corrupted picture."""
        if kind not in self.shown:
            drawn = {"picture": sample.image, "prediction": blend_overlay(sample.image, ids, self._labels, 0.6)}
            self.shown[kind] = {what: thumbnail(pixels, CORRUPTED_PX) for what, pixels in drawn.items()}


def page(
    report: Report,
    labels: LabelSet,
    worst: list[tuple[Shown, float]],
    corrupted: Mapping[str, Mapping[str, bytes]] | None = None,
) -> str:
    """The page as HTML. The report has its details; `corrupted` is what `CorruptedPictures` has kept."""
    details = report.details
    assert details is not None
    return render(
        "evaluation.html.j2",
        report=report,
        metrics=report.metrics,
        details=details,
        facts=facts(report.protocol),
        classes=_classes(report, labels),
        mistakes=mistakes(report.metrics.confusion.numpy(), labels)[:MISTAKES],
        errors=max(1, _errors(report)),
        matrix=_table(report, labels) if len(labels) <= LARGEST_TABLE else None,
        heat=_heat(report, labels) if len(labels) > LARGEST_TABLE else None,
        diagram=None if report.reliability is None else diagram(report.reliability),
        curve=None if report.risk is None else risk_curve(report.risk),
        worst=[
            {"shown": shown, "miou": miou, "pictures": {what: data_uri(jpeg) for what, jpeg in shown.jpegs.items()}}
            for shown, miou in worst
        ],
        legend=_legend(worst, labels),
        corrupted={
            kind: {what: data_uri(jpeg) for what, jpeg in jpegs.items()} for kind, jpegs in (corrupted or {}).items()
        },
        sizes=_sizes(),
        smallest=SMALLEST_PX,
        strip=DIAGONAL_SHARE,
    )


def mistakes(confusion: np.ndarray, labels: LabelSet) -> list[Mistake]:
    """What was taken for what, the most pixels first."""
    total = max(1, int(confusion.sum()))
    wrong = confusion * ~np.eye(len(labels), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")
    pairs = zip(*np.unravel_index(order[: int((wrong > 0).sum())], wrong.shape), strict=True)
    return [
        Mistake(labels.classes[row], labels.classes[column], int(wrong[row, column]), wrong[row, column] / total)
        for row, column in pairs
    ]


def error_map(picture: Pixels, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> Pixels:
    """The picture in pale gray, wrong pixels red, those of void dark."""
    gray = picture.mean(2, dtype=np.float32)[..., None] * 0.35 + 150
    drawn = np.broadcast_to(gray, picture.shape).astype(np.uint8)
    drawn[ids != truth] = WRONG
    drawn[truth == VOID] = UNKNOWN
    return drawn


def _draw(sample: Sample, ids: UInt8[np.ndarray, "h w"], labels: LabelSet) -> Shown:
    known, k = sample.mask != VOID, len(labels)
    cells = sample.mask[known].astype(np.int64) * k + ids[known]
    confusion = np.bincount(cells, minlength=k * k).reshape(k, k)
    drawn = {
        "picture": sample.image,
        "truth": blend_overlay(sample.image, sample.mask, labels, 0.6),
        "prediction": blend_overlay(sample.image, ids, labels, 0.6),
        "errors": error_map(sample.image, ids, sample.mask),
    }
    return Shown(
        sample.name,
        float(confusion.trace() / confusion.sum()),
        tuple(mistakes(confusion, labels)[:2]),
        frozenset(np.flatnonzero(confusion.sum(0) + confusion.sum(1)).tolist()),
        {what: thumbnail(pixels) for what, pixels in drawn.items()},
    )


def _errors(report: Report) -> int:
    confusion = report.metrics.confusion
    return int(confusion.sum() - confusion.trace())


def _classes(report: Report, labels: LabelSet) -> list[dict[str, Any]]:
    """The figures of each class, the lowest IoU first."""
    confusion, details = report.metrics.confusion.numpy(), report.details
    assert details is not None
    of_truth, of_prediction, hits = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    colors = display_colors(labels)
    total, errors = max(1, int(confusion.sum())), max(1, _errors(report))
    rows = [
        {
            "name": name,
            "color": colors[i],
            "iou": report.metrics.class_iou[name],
            "boundary": details.boundary_iou[name],
            "share": of_truth[i] / total,
            "pixels": int(of_truth[i]),
            "missed": (of_truth[i] - hits[i]) / errors,
            "false": (of_prediction[i] - hits[i]) / errors,
            "sizes": [details.class_size_iou[name][size] for size in SIZES],
        }
        for i, name in enumerate(labels.classes)
    ]
    return sorted(rows, key=lambda row: 2.0 if row["iou"] is None else row["iou"])


def _row_shares(report: Report) -> Float[np.ndarray, "k k"]:
    confusion = report.metrics.confusion.double().numpy()
    shares: np.ndarray = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return shares


def _table(report: Report, labels: LabelSet) -> list[dict[str, Any]]:
    """Rows of the confusion matrix: cells with their share, and the strength of their color."""
    return [
        {
            "name": name,
            "cells": [
                {"share": share, "strength": round(share**0.6, 2), "right": row == column}  # small ones stay visible
                for column, share in enumerate(shares)
            ],
        }
        for row, (name, shares) in enumerate(zip(labels.classes, _row_shares(report).tolist(), strict=True))
    ]


def _heat(report: Report, labels: LabelSet) -> dict[str, Any]:
    """The confusion matrix as paths of an SVG, one for each shade: its bytes grow with what is confused only."""
    shares = _row_shares(report)
    level = np.ceil(shares**0.6 * LEVELS).astype(int)
    right = np.eye(len(labels), dtype=bool)
    paths = [
        {"right": side is right, "strength": shade / LEVELS, "d": _squares(side & (level == shade) & (shares >= LEAST))}
        for side in (right, ~right)
        for shade in range(1, LEVELS + 1)
    ]
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in labels.classes]
    margin = 12 + 6 * max(map(len, names))
    return {
        "names": names,
        "paths": [path for path in paths if path["d"]],
        "cell": CELL_PX,
        "margin": margin,
        "side": margin + CELL_PX * len(labels),
    }


def _squares(cells: np.ndarray) -> str:
    return "".join(
        f"M{column * CELL_PX} {row * CELL_PX}h{CELL_PX - 1}v{CELL_PX - 1}h-{CELL_PX - 1}z"
        for row, column in zip(*(each.tolist() for each in np.nonzero(cells)), strict=True)
    )


def _legend(worst: list[tuple[Shown, float]], labels: LabelSet) -> list[tuple[str, Color]]:
    shown = frozenset[int]().union(*(each.classes for each, _ in worst))
    colors = display_colors(labels)
    return [(labels.classes[i], colors[i]) for i in sorted(shown)]


def _sizes() -> dict[str, str]:
    """What each size of regions means."""
    texts, least = {}, SMALLEST_PX
    for size, bound in SIZES.items():
        texts[size] = f"{least:,} px and more" if bound is None else f"{least:,} to {bound - 1:,} px"
        least = bound or least
    return texts
