"""How far a network's confidence can be believed, and the one temperature that mends it.

A network that is calibrated is right in 8 of 10 pixels of which it says that it is 80 % sure. Temperature scaling
divides all logits by one number, which changes no class (Guo et al. 2017, On Calibration of Modern Neural Networks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from kerbseg.core.errors import DataError

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures; a network that needs others has learned nothing, or all by heart
PRECISION = 1e-5  # of the temperature that is looked for, as a share of it
CELLS_PER_OCTAVE, OCTAVES = 512, 24  # of 1 - confidence, by which pixels are sorted; float32 has no more octaves
CHUNK_PIXELS = 2**18  # whose probabilities are in memory at once


@dataclass(frozen=True)
class Bin:
    """Pixels of about one confidence: their share of all, their mean confidence, the share of them that is right."""

    share: float
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Confidence against truth over labelled pixels; lower is better in all four, and 0 is perfect."""

    ece: float  # expected calibration error: mean |accuracy - confidence| over bins of one width, weighted by pixels
    adaptive_ece: float  # the same over bins of equally many pixels
    brier: float  # mean squared distance of the probabilities from the truth, summed over classes: 0 to 2
    nll: float  # mean negative log-likelihood of the true class, in nats
    bins: tuple[Bin, ...]  # those of `ece` that have pixels, by confidence

    def to_dict(self) -> dict[str, object]:
        """As JSON holds it."""
        return asdict(self)

    def figures(self) -> dict[str, float]:
        """The same without the bins."""
        return {"ece": self.ece, "adaptive_ece": self.adaptive_ece, "brier": self.brier, "nll": self.nll}


class CalibrationCounter:
    """Counts labelled pixels, of any number of pictures, in a memory that does not grow.

    Bins of equal numbers need all pixels in the order of their confidence. They are counted in cells instead, narrow
    ones towards certainty, and a cell that lies across a border is shared out, as are pixels of one confidence.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = temperature
        self._wide = np.zeros((3, BINS))  # pixels, their confidences, hits
        self._narrow = np.zeros((3, CELLS_PER_OCTAVE * OCTAVES + 1))
        self._squares = self._losses = 0.0

    def update(self, logits: Float[Tensor, "k n"], truth: UInt8[np.ndarray, " n"], weight: float = 1.0) -> None:
        """Takes pixels with their logits and true classes; each counts `weight` times."""
        for first in range(0, len(truth), CHUNK_PIXELS):
            self._add(logits[:, first : first + CHUNK_PIXELS], truth[first : first + CHUNK_PIXELS], weight)

    def _add(self, logits: Float[Tensor, "k n"], truth: UInt8[np.ndarray, " n"], weight: float) -> None:
        log = (logits.float() / self._temperature).log_softmax(0)
        probabilities, targets = log.exp(), torch.from_numpy(truth).long().to(logits.device)
        largest, ids = probabilities.max(0)
        others = probabilities.scatter(0, ids[None], 0).sum(0)  # 1 - largest, which float32 would round to 0
        of_truth = probabilities.gather(0, targets[None])[0]
        squares = probabilities.square().sum(0) - 2 * of_truth + 1
        self._squares += weight * float(squares.sum(dtype=torch.float64))
        self._losses -= weight * float(log.gather(0, targets[None]).sum(dtype=torch.float64))
        confidence, hits = largest.double().cpu().numpy(), (ids == targets).double().cpu().numpy()
        width = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (m - 1) / M < confidence <= m / M
        octave = -np.log2(np.maximum(others.double().cpu().numpy(), 2.0**-OCTAVES))
        narrow = np.clip((octave * CELLS_PER_OCTAVE).round().astype(int), 0, CELLS_PER_OCTAVE * OCTAVES)
        for counts, cells in ((self._wide, width), (self._narrow, narrow)):
            for row, values in zip(counts, (None, confidence, hits), strict=True):
                row += weight * np.bincount(cells, values, minlength=len(row))

    def compute(self) -> Calibration:
        """The figures. Raises DataError where no pixel was counted."""
        pixels = float(self._wide[0].sum())
        if not pixels:
            raise DataError("there is no labelled pixel to compare confidence with; choose another split")
        return Calibration(
            ece=_expected_error(self._wide),
            adaptive_ece=_expected_error(_equal_numbers(self._narrow)),
            brier=self._squares / pixels,
            nll=self._losses / pixels,
            bins=tuple(
                Bin(float(n / pixels), float(confidence / n), float(hits / n))
                for n, confidence, hits in self._wide.T
                if n
            ),
        )


@dataclass(frozen=True)
class Reliability:
    """Confidence against truth at the temperature of a card, and without it where there is one."""

    temperature: float | None
    calibration: Calibration
    uncalibrated: Calibration | None

    def to_dict(self) -> dict[str, object]:
        """As `kerbseg evaluate --json` writes it."""
        without = None if self.uncalibrated is None else self.uncalibrated.to_dict()
        return {"temperature": self.temperature, **self.calibration.to_dict(), "uncalibrated": without}


class ReliabilityCounter:
    """Counts labelled pixels at a card's temperature, and without it where there is one."""

    def __init__(self, temperature: float | None) -> None:
        self._temperature = temperature
        self._with = CalibrationCounter(temperature or 1.0)
        self._without = None if temperature is None else CalibrationCounter()

    def update(self, logits: Float[Tensor, "k n"], truth: UInt8[np.ndarray, " n"]) -> None:
        """Takes pixels with their logits and true classes."""
        for counter in (self._with, self._without):
            if counter is not None:
                counter.update(logits, truth)

    def compute(self) -> Reliability:
        """The figures. Raises DataError where no pixel was counted."""
        without = None if self._without is None else self._without.compute()
        return Reliability(self._temperature, self._with.compute(), without)


def _expected_error(counts: Float[np.ndarray, "3 _"]) -> float:
    pixels, confidences, hits = counts
    return float(np.abs(hits - confidences).sum() / pixels.sum())


def _equal_numbers(cells: Float[np.ndarray, "3 _"]) -> Float[np.ndarray, "3 bins"]:
    """Cells in their order, shared out among bins of equally many pixels."""
    sums = np.concatenate([np.zeros((3, 1)), cells.cumsum(1)], 1)
    borders = np.linspace(0, sums[0, -1], BINS + 1)
    return np.diff(np.stack([np.interp(borders, sums[0], row) for row in sums]), axis=1)


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels with their logits; each stands for `weight` of its picture."""

    logits: Float32[Tensor, "k n"]
    truth: UInt8[np.ndarray, " n"]
    weight: float = 1.0


def fit_temperature(pixels: Sequence[Pixels]) -> float:
    """The temperature with the least negative log-likelihood (nats) over all pixels.

    By Newton's method on its inverse, in which the likelihood is convex; a step that leaves the interval known to hold
    the minimum becomes a bisection. Raises DataError where there is no minimum between 0.05 and 20.
    """
    if not any(len(each.truth) for each in pixels):
        raise DataError("there is no labelled pixel to fit a temperature on; choose another split")
    low, high = 1 / HOTTEST, 1 / COLDEST
    if _slopes(pixels, low)[0] >= 0:
        raise DataError(
            f"no temperature up to {HOTTEST:g} fits: the network's confidence says next to nothing of the truth; train"
            " it first, and look at its classes with: kerbseg evaluate"
        )
    if _slopes(pixels, high)[0] <= 0:
        raise DataError(
            f"no temperature down to {COLDEST:g} fits: the network is right in (nearly) every labelled pixel; use more"
            " pictures, which it was not trained on"
        )
    inverse = 1.0
    while True:
        slope, curvature = _slopes(pixels, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else math.inf
        following = step if low <= step <= high else math.sqrt(low * high)
        if abs(following - inverse) <= PRECISION * inverse:
            return 1 / following
        inverse = following


def _slopes(pixels: Sequence[Pixels], inverse: float) -> tuple[float, float]:
    """First and second derivative, by the inverse temperature, of the mean negative log-likelihood."""
    slope = curvature = total = 0.0
    for each in pixels:
        total += each.weight * len(each.truth)
        for first in range(0, len(each.truth), CHUNK_PIXELS):
            logits = each.logits[:, first : first + CHUNK_PIXELS]
            targets = torch.from_numpy(each.truth[first : first + CHUNK_PIXELS]).long().to(logits.device)
            centered = logits - logits.gather(0, targets[None])  # so that the mean is the slope itself
            probabilities = (inverse * centered).softmax(0)
            mean = (probabilities * centered).sum(0)
            variance = (probabilities * (centered - mean).square()).sum(0)
            slope += each.weight * float(mean.sum(dtype=torch.float64))
            curvature += each.weight * float(variance.sum(dtype=torch.float64))
    return slope / total, curvature / total
