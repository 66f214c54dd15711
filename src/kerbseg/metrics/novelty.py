"""How well pixels of things that a network has never learned can be told from others, by its logits alone.

Softmax compares classes with each other: a new thing may resemble one class much more than the others, and look
certain. The largest logit itself says how much there is of any class (Hendrycks et al., Scaling Out-of-Distribution
Detection for Real-World Settings, ICML 2022: MaxLogit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from kerbseg.core.errors import DataError
from kerbseg.metrics.risk import doubts

NOVELTY: dict[str, Callable[[Float[Tensor, "k n"]], Float64[np.ndarray, " n"]]] = {
    "probability": lambda logits: doubts(logits, None, "probability"),
    "entropy": lambda logits: doubts(logits, None, "entropy"),
    "margin": lambda logits: doubts(logits, None, "margin"),
    "max_logit": lambda logits: -logits.amax(0).double().cpu().numpy(),
    "energy": lambda logits: -logits.logsumexp(0).double().cpu().numpy(),
}
"""How new each pixel is, by name; larger is newer. The first three are 1 - confidence, at temperature 1."""


@dataclass(frozen=True)
class Separation:
    """How well new pixels are told from known ones."""

    auroc: float  # probability that a new pixel looks newer than a known one; 0.5 is chance
    fpr95: float  # share of the known pixels that are flagged where 95 % of the new ones are


def separation(known: Float64[np.ndarray, " n"], new: Float64[np.ndarray, " m"]) -> Separation:
    """AUROC and FPR at 95 % of how new known and new pixels look. Raises DataError where one of them is empty."""
    if not len(known) or not len(new):
        raise DataError("novelty is measured between known and new pixels, and there are none of one of them")
    known = np.sort(known)
    below, upto = (np.searchsorted(known, new, side) for side in ("left", "right"))
    auroc = float((below + upto).mean() / 2 / len(known))  # of equal ones half
    threshold = np.quantile(new, 0.05, method="lower")  # 95 % of the new ones are at least that
    flagged = len(known) - np.searchsorted(known, threshold, "left")
    return Separation(auroc, float(flagged / len(known)))
