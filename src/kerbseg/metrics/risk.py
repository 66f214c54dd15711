"""What a network gets wrong where it is sure: the risk of the pixels that are kept, by how many are.

Pixels are sorted by confidence; of the surest share (coverage) the risk is the share that is wrong. The area under that
curve is AURC (Geifman and El-Yaniv, Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor

from kerbseg.core.errors import DataError
from kerbseg.core.labels import LabelSet
from kerbseg.metrics import Metrics, compute_metrics

CELLS_PER_OCTAVE, OCTAVES = 512, 24  # of the doubt, by which pixels are sorted; float32 has no more octaves
POINTS = 100  # of the curve, at coverages of 0.01 to 1
RISKS = (0.001, 0.01, 0.05)  # of which the largest coverage is told


def doubts(logits: Float[Tensor, "k n"], temperature: float | None, measure: str) -> Float64[np.ndarray, " n"]:
    """1 - confidence of each pixel, with all its digits: 1 - 1e-9 is 1 in float32.

    `measure` is probability, entropy or margin, as in `kerbseg.runtime.ConfidenceMeasure`.
    """
    log = (logits.float() / (temperature or 1.0)).log_softmax(0)
    probabilities = log.exp()
    if measure == "entropy":
        entropy = -(probabilities * log.clamp(min=-100)).sum(0)
        doubt = entropy / math.log(max(2, len(logits)))
    else:
        largest = probabilities.argmax(0)
        others = probabilities.scatter(0, largest[None], 0)
        doubt = others.sum(0) + (others.amax(0) if measure == "margin" else 0)
    values: np.ndarray = doubt.double().cpu().numpy()
    return values


@dataclass(frozen=True)
class RiskCoverage:
    """How many errors are left where unsure pixels are left out; lower is better, and 0 is perfect."""

    measure: str  # of the confidence: probability, entropy or margin
    aurc: float  # area under the curve: the mean risk over all coverages
    excess_aurc: float  # how much that is above the least that this share of errors allows
    risk: float  # of all pixels
    points: tuple[tuple[float, float], ...]  # coverage and risk

    def coverage_at(self, risk: float) -> float:
        """The largest coverage of a point of the curve with no more risk than that."""
        return max((coverage for coverage, each in self.points if each <= risk), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg evaluate --json` writes it."""
        return {
            "measure": self.measure,
            "aurc": self.aurc,
            "excess_aurc": self.excess_aurc,
            "risk": self.risk,
            "coverage_at_risk": {f"{risk:g}": self.coverage_at(risk) for risk in RISKS},
            "points": [list(point) for point in self.points],
        }


class RiskCounter:
    """Counts labelled pixels, of any number of pictures, by their doubt, in a memory that does not grow.

    Pixels of one cell, whose doubts are about equal, come in no order: each is as wrong as their mean.
    """

    def __init__(self, measure: str = "probability") -> None:
        self._measure = measure
        self._cells = np.zeros((2, CELLS_PER_OCTAVE * OCTAVES + 1))  # pixels, errors

    def update(self, doubt: Float64[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"]) -> None:
        """Takes pixels: 1 - confidence of each, and whether its class is wrong."""
        octave = -np.log2(np.clip(doubt, 2.0**-OCTAVES, 1))
        cell = (octave * CELLS_PER_OCTAVE).round().astype(int)
        self._cells[0] += np.bincount(cell, minlength=self._cells.shape[1])
        self._cells[1] += np.bincount(cell[wrong], minlength=self._cells.shape[1])

    def compute(self) -> RiskCoverage:
        """The curve. Raises DataError where no pixel was counted."""
        pixels, errors = (row[::-1] for row in self._cells)  # the surest first
        pixels, errors = pixels[pixels > 0], errors[pixels > 0]
        total = pixels.sum()
        if not total:
            raise DataError("there is no labelled pixel to compare confidence with; choose another split")
        before, wrong = pixels.cumsum() - pixels, errors.cumsum() - errors
        rate = errors / pixels
        # of each cell the integral of (wrong + rate t) / (before + t) over t in 0..pixels
        growth = np.log((before[1:] + pixels[1:]) / before[1:])
        area = pixels * rate
        area[1:] += (wrong[1:] - rate[1:] * before[1:]) * growth
        risk = float(errors.sum() / total)
        least = risk + (1 - risk) * math.log(1 - risk) if risk < 1 else 1.0
        coverages = np.arange(1, POINTS + 1) / POINTS
        kept = np.interp(coverages * total, [0, *pixels.cumsum()], [0, *errors.cumsum()])
        points = tuple(zip(coverages.tolist(), (kept / (coverages * total)).tolist(), strict=True))
        aurc = float(area.sum() / total)
        return RiskCoverage(self._measure, aurc, max(0.0, aurc - least), risk, points)


@dataclass(frozen=True)
class Kept:
    """Metrics of the pixels that are left where those with less confidence are unknown."""

    unknown: float  # the least confidence
    measure: str
    coverage: float  # share of the labelled pixels that is kept
    metrics: Metrics

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg evaluate --json` writes it."""
        miou = self.metrics.miou
        return {
            "threshold": self.unknown,
            "measure": self.measure,
            "coverage": self.coverage,
            "miou": None if math.isnan(miou) else miou,
            "class_iou": dict(self.metrics.class_iou),
            "pixel_accuracy": self.metrics.pixel_accuracy if self.coverage else None,
        }


class KeptCounter:
    """Counts the labelled pixels whose confidence is at least `unknown`."""

    def __init__(self, unknown: float, measure: str, labels: LabelSet) -> None:
        self._unknown, self._measure, self._labels = unknown, measure, labels
        self._confusion = np.zeros(len(labels) ** 2, np.int64)
        self._pixels = 0

    def update(
        self,
        doubt: Float64[np.ndarray, " n"],
        ids: UInt8[np.ndarray, " n"],
        truth: UInt8[np.ndarray, " n"],
    ) -> None:
        """Takes pixels: 1 - confidence, predicted and true class of each."""
        kept = np.float32(1 - doubt) >= np.float32(self._unknown)
        cells = truth[kept].astype(np.int64) * len(self._labels) + ids[kept]
        self._confusion += np.bincount(cells, minlength=len(self._confusion))
        self._pixels += len(truth)

    def compute(self) -> Kept:
        """The figures; those of no pixel are not numbers."""
        confusion = torch.from_numpy(self._confusion.reshape(len(self._labels), -1))
        coverage = float(confusion.sum()) / max(1, self._pixels)
        return Kept(self._unknown, self._measure, coverage, compute_metrics(confusion, self._labels))
