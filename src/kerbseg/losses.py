"""Loss functions; VOID pixels have no part in any of them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from kerbseg.core.types import VOID


def cross_entropy(
    logits: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    weights: Float[Tensor, " k"] | None = None,
    average: Literal["weights", "pixels", "pictures"] = "pixels",
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Class-weighted cross entropy over the pixels that are not VOID; 0 where all of them are.

    Divided by the sum of the pixels' weights (ERFNet's code), or by the number of pixels of classes whose weight is
    not 0 (MiniNet's code): the second makes the step of a picture of rare classes larger. Divided by the number of
    pictures (LiteSeg's code) it is larger the more pixels a picture has, and wants a rate as small as 1e-7.
    """
    target = mask.long()
    total = F.cross_entropy(logits, target, weights, ignore_index=VOID, reduction="sum", label_smoothing=smoothing)
    if average == "pictures":
        return total / len(logits)
    if weights is None:
        return total / (target != VOID).sum().clamp(min=1)
    by_id = torch.zeros(256, device=logits.device, dtype=weights.dtype)
    by_id[: len(weights)] = weights
    pixels = by_id[target]
    divisor = pixels.sum() if average == "weights" else (pixels != 0).sum()
    return total / divisor.clamp(min=1e-6)


def at_scores(mask: UInt8[Tensor, "b h w"], size: tuple[int, int]) -> UInt8[Tensor, "b H W"]:
    """The mask at the size of a network's own scores: every n-th pixel, as ERFNet trains its encoder."""
    return F.interpolate(mask[:, None], size, mode="nearest")[:, 0]
