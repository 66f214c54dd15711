"""Loss functions; VOID pixels have no part in any of them.

Where several processes share a batch, each gives its rows and its `rank`, and the mean of what they compute (and of
their gradients) is the loss of the whole batch.
"""

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
    average: Literal["weights", "pixels", "pictures", "none"] = "pixels",
    smoothing: float = 0.0,
    rank: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Class-weighted cross entropy over the pixels that are not VOID; 0 where all of them are.

    Divided by the sum of the pixels' weights (ERFNet's code), or by the number of pixels of classes whose weight is
    not 0 (MiniNet's code): the second makes the step of a picture of rare classes larger. Divided by the number of
    pictures (LiteSeg's code) it is larger the more pixels a picture has, and wants a rate as small as 1e-7. By nothing
    (`none`, as MiniNet's ablation says) it is their sum, whose scale Adam does not see, but its weight decay does.

    What it is divided by is the mean over the processes, however unequally VOID or rare classes are shared out.
    """
    target = mask.long()
    total = F.cross_entropy(logits, target, weights, ignore_index=VOID, reduction="sum", label_smoothing=smoothing)
    if average == "none":
        return total * rank.count  # of which the processes take the mean
    if average == "pictures":
        return total / len(logits)
    if weights is None:
        return total / rank.mean((target != VOID).sum()).clamp(min=1e-6)
    by_id = torch.zeros(256, device=logits.device, dtype=weights.dtype)
    by_id[: len(weights)] = weights
    pixels = by_id[target]
    divisor = pixels.sum() if average == "weights" else (pixels != 0).sum()
    return total / rank.mean(divisor).clamp(min=1e-6)


def mask_at(mask: UInt8[Tensor, "b h w"], size: tuple[int, int]) -> UInt8[Tensor, "b H W"]:
    """The mask at the size of a network's own logits: the pixel in the middle of what each of them sees.

    Of 8 pixels that is the one at 4, as in the labels that ERFNet's code trains its encoder on; torch's `nearest` takes
    the first, half a cell away.
    """
    return F.interpolate(mask[:, None], size, mode="nearest-exact")[:, 0]


@torch.no_grad()
def hardest(
    logits: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    threshold: float,
    min_kept: float,
    rank: Rank = SINGLE,
) -> UInt8[Tensor, "b h w"]:
    """The mask with VOID where a pixel is easy: its class has a probability of `threshold` or more.

    Where fewer than a share `min_kept` of the labelled pixels are hard, the least probable ones make up that share.
    """
    labelled = mask != VOID
    true = torch.where(labelled, mask, 0).long()[:, None]
    probability = logits.float().softmax(1).gather(1, true)[:, 0]
    known = rank.gather(torch.where(labelled, probability, 2.0))  # 2: more than any probability
    known = known[known < 2]
    if not len(known):
        return mask
    needed = max(1, round(min_kept * len(known)))
    hard = (probability < threshold) | (probability <= known.kthvalue(needed).values)
    return torch.where(hard, mask, VOID)


def near_boundaries(mask: UInt8[Tensor, "b h w"], radius: int) -> UInt8[Tensor, "b h w"]:
    """The mask with VOID wherever no other class lies within `radius` pixels along either axis; VOID is no class."""
    ids, void = mask.float()[:, None], (mask == VOID)[:, None]
    window = 2 * radius + 1
    highest = F.max_pool2d(ids.masked_fill(void, -1), window, stride=1, padding=radius)
    lowest = -F.max_pool2d((-ids).masked_fill(void, -VOID), window, stride=1, padding=radius)
    return torch.where((highest > lowest)[:, 0], mask, VOID)


def lovasz_softmax(
    logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"], rank: Rank = SINGLE
) -> Float[Tensor, ""]:
    """1 - mean IoU of the classes in the batch, extended to probabilities (Berman, Triki, Blaschko, CVPR 2018).

    IoU has no mean over parts of a batch, so each process computes that of the whole.
    """
    logits, mask = rank.gather(logits), rank.gather(mask)
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
    rank: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Divergence of the logits from a teacher's, over the pixels that are not VOID (Hinton, Vinyals, Dean, 2015).

    Times the temperature's square, so that its gradient does not shrink as the temperature grows.
    """
    own, other = (F.log_softmax(each / temperature, 1) for each in (logits, teacher))
    divergence = F.kl_div(own, other, reduction="none", log_target=True).sum(1)
    labelled = mask != VOID
    return divergence.masked_fill(~labelled, 0).sum() / rank.mean(labelled.sum()).clamp(min=1e-6) * temperature**2
