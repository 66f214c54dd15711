"""Loss functions; VOID pixels have no part in any of them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.types import VOID


def cross_entropy(
    logits: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    weights: Float[Tensor, " k"] | None = None,
    average: Literal["weights", "pixels", "pictures"] = "pixels",
    smoothing: float = 0.0,
    process: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Class-weighted cross entropy over the pixels that are not VOID; 0 where all of them are.

    Divided by the sum of the pixels' weights (ERFNet's code), or by the number of pixels of classes whose weight is
    not 0 (MiniNet's code): the second makes the step of a picture of rare classes larger. Divided by the number of
    pictures (LiteSeg's code) it is larger the more pixels a picture has, and wants a rate as small as 1e-7.

    What it is divided by is the mean over the processes, so that the mean of the processes' losses (and gradients) is
    the loss of the whole batch, however unequally VOID or rare classes are shared out.
    """
    target = mask.long()
    total = F.cross_entropy(logits, target, weights, ignore_index=VOID, reduction="sum", label_smoothing=smoothing)
    if average == "pictures":
        return total / len(logits)
    if weights is None:
        return total / process.mean((target != VOID).sum()).clamp(min=1e-6)
    by_id = torch.zeros(256, device=logits.device, dtype=weights.dtype)
    by_id[: len(weights)] = weights
    pixels = by_id[target]
    divisor = pixels.sum() if average == "weights" else (pixels != 0).sum()
    return total / process.mean(divisor).clamp(min=1e-6)


def at_scores(mask: UInt8[Tensor, "b h w"], size: tuple[int, int]) -> UInt8[Tensor, "b H W"]:
    """The mask at the size of a network's own scores: every n-th pixel, as ERFNet trains its encoder."""
    return F.interpolate(mask[:, None], size, mode="nearest")[:, 0]


@torch.no_grad()
def hardest(
    logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"], threshold: float, min_kept: float
) -> UInt8[Tensor, "b h w"]:
    """The mask with VOID where a pixel is easy: its class has a probability of `threshold` or more.

    Where fewer than a share `fewest` of the labelled pixels are hard, the least probable ones make up that share.
    """
    labelled = mask != VOID
    count = int(labelled.sum())
    if not count:
        return mask
    true = torch.where(labelled, mask, 0).long()[:, None]
    probability = logits.float().softmax(1).gather(1, true)[:, 0]
    needed = max(1, round(min_kept * count))
    highest = probability[labelled].kthvalue(needed).values
    hard = (probability < threshold) | (probability <= highest)
    return torch.where(hard, mask, VOID)


def near_boundaries(mask: UInt8[Tensor, "b h w"], radius: int) -> UInt8[Tensor, "b h w"]:
    """The mask with VOID wherever no other class lies within `radius` pixels along either axis; VOID is no class."""
    ids, void = mask.float()[:, None], (mask == VOID)[:, None]
    window = 2 * radius + 1
    highest = F.max_pool2d(ids.masked_fill(void, -1), window, stride=1, padding=radius)
    lowest = -F.max_pool2d((-ids).masked_fill(void, -VOID), window, stride=1, padding=radius)
    return torch.where((highest > lowest)[:, 0], mask, VOID)


def lovasz_softmax(logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"]) -> Float[Tensor, ""]:
    """1 - mean IoU of the classes in the batch, extended to probabilities (Berman, Triki, Blaschko, CVPR 2018)."""
    labelled = mask != VOID
    probabilities = logits.softmax(1).movedim(1, -1)[labelled]  # n k
    truth = mask[labelled].long()  # n
    losses = []
    for index in truth.unique().tolist():
        own = (truth == index).to(probabilities.dtype)
        errors, order = (own - probabilities[:, index]).abs().sort(descending=True)
        own = own[order]
        missed = own.cumsum(0)  # pixels of the class, were all up to here wrong
        jaccard = 1 - (own.sum() - missed) / (own.sum() + (1 - own).cumsum(0))
        losses.append(errors @ jaccard.diff(prepend=jaccard.new_zeros(1)))
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def distillation(
    logits: Float[Tensor, "b k h w"],
    teacher: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    temperature: float,
    process: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Divergence of the scores from a teacher's, over the pixels that are not VOID (Hinton, Vinyals, Dean, 2015).

    Times the temperature's square, so that its gradient does not shrink as the temperature grows.
    """
    own, other = (F.log_softmax(scores / temperature, 1) for scores in (logits, teacher))
    each = F.kl_div(own, other, reduction="none", log_target=True).sum(1)
    labelled = mask != VOID
    return each.masked_fill(~labelled, 0).sum() / process.mean(labelled.sum()).clamp(min=1e-6) * temperature**2
