"""How sure a network is of each pixel's class: from logits, after the temperature of its card."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor


def confidence(
    ids: UInt8[np.ndarray, "b h w"], logits: Float[Tensor, "b k h w"], temperature: float | None
) -> Float32[np.ndarray, "b h w"]:
    """The probability of each pixel's class; the temperature divides the logits, and changes no id."""
    scaled = logits if temperature is None else logits / temperature
    own = scaled.gather(1, torch.from_numpy(ids).to(scaled.device).long()[:, None])[:, 0]
    probabilities: np.ndarray = (own - scaled.logsumexp(1)).exp().float().cpu().numpy()
    return probabilities
