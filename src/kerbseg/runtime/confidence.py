"""How sure a network is of each pixel's class: from logits, after the temperature of its card."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kerbseg.runtime.checks import checked_measure
from kerbseg.runtime.protocols import Confidence, ConfidenceDtype, ConfidenceMeasure


def confidence(
    ids: UInt8[np.ndarray, "b h w"],
    logits: Float[Tensor, "b k h w"],
    temperature: float | None,
    measure: ConfidenceMeasure = "probability",
    dtype: ConfidenceDtype = "float32",
) -> Confidence:
    """How sure each pixel's class is, 0 to 1, of 255 as uint8; the temperature divides the logits, and changes no id.

    Raises InputError for another measure or type.
    """
    checked_measure(measure, dtype)
    scaled = logits if temperature is None else logits / temperature
    sure = _MEASURES[measure](torch.from_numpy(ids).to(scaled.device).long()[:, None], scaled).float()
    if dtype == "uint8":
        sure = (255 * sure).round().to(torch.uint8)
    values: np.ndarray = sure.cpu().numpy()
    return values


def _probability(ids: Tensor, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w"]:
    return (logits.gather(1, ids)[:, 0] - logits.logsumexp(1)).exp()


def _entropy(_ids: Tensor, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w"]:
    if logits.shape[1] == 1:
        return torch.ones_like(logits[:, 0])
    log = logits.log_softmax(1)
    # what has no probability adds nothing, though its logarithm may be infinite
    entropy = -(log.exp() * log.clamp(min=-100)).sum(1)
    return (1 - entropy / math.log(logits.shape[1])).clamp(min=0)


def _margin(ids: Tensor, logits: Float[Tensor, "b k h w"]) -> Float[Tensor, "b h w"]:
    own = _probability(ids, logits)
    if logits.shape[1] == 1:
        return own
    others = logits.scatter(1, ids, -torch.inf).amax(1)
    return (own - (others - logits.logsumexp(1)).exp()).clamp(min=0)


_MEASURES = {"probability": _probability, "entropy": _entropy, "margin": _margin}
