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
    average: Literal["weights", "pixels", "all", "pictures", "none"] = "pixels",
    smoothing: float = 0.0,
    rank: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Class-weighted cross entropy over the pixels that are not VOID; 0 where all of them are.

    Divided by the sum of the pixels' weights (ERFNet's code), or by the number of pixels of classes whose weight is
    not 0 (MiniNet's code): the second makes the step of a picture of rare classes larger. Divided by the number of
    `all` pixels (auxiliary heads of PIDNet's code), VOID included, it is smaller the more of them is VOID. Divided by
    the number of pictures (LiteSeg's code) it is larger the more pixels a picture has, and wants a rate as small as
    1e-7. By nothing (`none`, as MiniNet's ablation says) it is their sum, whose scale Adam does not see, but its weight
    decay does.

    What it is divided by is the mean over the processes, however unequally VOID or rare classes are shared out.
    """
    target = mask.long()
    total = F.cross_entropy(logits, target, weights, ignore_index=VOID, reduction="sum", label_smoothing=smoothing)
    if average == "none":
        return total * rank.count  # of which the processes take the mean
    if average == "pictures":
        return total / len(logits)
    if average == "all":
        return total / mask.numel()
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
    probability = _of_true_class(logits, mask)
    known = _known(probability, rank)
    if not len(known):
        return mask
    needed = max(1, round(min_kept * len(known)))
    hard = (probability < threshold) | (probability <= known.kthvalue(needed).values)
    return torch.where(hard, mask, VOID)


@torch.no_grad()
def hardest_hrnet(
    logits: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    threshold: float = 0.9,
    min_kept: int = 131_072,
    rank: Rank = SINGLE,
) -> UInt8[Tensor, "b h w"]:
    """As `hardest`, by the rule of HRNet's code, which DDRNet and PIDNet train with.

    Those labelled pixels count whose probability is below t: `threshold`, or that of pixel number `min_kept` (from 0,
    the least probable first; the last one if there are no more) where this is larger. Of pixels alike at t none counts,
    so there may be fewer than `min_kept`, or none at all.
    """
    probability = _of_true_class(logits, mask)
    known = _known(probability, rank)
    place = min(min_kept, len(known) - 1)
    return torch.where(probability < _at_least(threshold, known, place), mask, VOID)


@torch.no_grad()
def hardest_paddleseg(
    logits: Float[Tensor, "b k h w"],
    mask: UInt8[Tensor, "b h w"],
    threshold: float = 0.7,
    min_kept: int = 130_000,
    rank: Rank = SINGLE,
) -> UInt8[Tensor, "b h w"]:
    """As `hardest`, by the rule of PaddleSeg's code, which PP-LiteSeg trains with.

    Of at most `min_kept` labelled pixels all count. Of more, those whose probability is below t: `threshold`, or that
    of pixel number `min_kept` (from 1, the least probable first) where this is larger.
    """
    probability = _of_true_class(logits, mask)
    known = _known(probability, rank)
    if len(known) <= min_kept:
        return mask
    return torch.where(probability < _at_least(threshold, known, min_kept - 1), mask, VOID)


def _of_true_class(logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Probability of each pixel's class; 2 where there is none, more than any."""
    labelled = mask != VOID
    true = torch.where(labelled, mask, 0).long()[:, None]
    return torch.where(labelled, logits.float().softmax(1).gather(1, true)[:, 0], 2.0)


def _known(probability: Float[Tensor, "b h w"], rank: Rank) -> Float[Tensor, " n"]:
    """Those of the labelled pixels of the whole batch."""
    known = rank.gather(probability)
    return known[known < 2]


def _at_least(threshold: float, known: Float[Tensor, " n"], place: int) -> float:
    """The threshold, or the value at a place (from 0) in order of size where it is larger."""
    if int((known < threshold).sum()) > place:  # spares a search among millions
        return threshold
    return max(threshold, float(known.kthvalue(place + 1).values))


def mean_of_hard(
    logits: Float[Tensor, "b k h w"],
    hard: UInt8[Tensor, "b h w"],
    weights: Float[Tensor, " k"] | None = None,
    slack: float = 0.0,
    smoothing: float = 0.0,
    rank: Rank = SINGLE,
) -> Float[Tensor, ""]:
    """Class-weighted cross entropy over the pixels that are not VOID, by their number; 0 where all of them are.

    They are counted whatever their classes weigh (HRNet's code). A share `slack` of all pixels is added to their number
    (PaddleSeg's code: 1e-5), which makes the loss a little smaller the fewer they are.
    """
    total = cross_entropy(logits, hard, weights, "none", smoothing)
    return total / (rank.mean((hard != VOID).sum()) + slack * hard.numel()).clamp(min=1e-6)


def boundary_loss(
    logits: Float[Tensor, "b 1 h w"], edge: UInt8[Tensor, "b h w"], rank: Rank = SINGLE
) -> Float[Tensor, ""]:
    """Binary cross entropy of where classes meet, over all pixels, also VOID ones (PIDNet's code, before its factor).

    A pixel of an edge (1) weighs the share of those of none (0), and the reverse, so that the few edges count as much
    as all else.
    """
    edges = rank.mean((edge == 1).float().mean())
    weight = torch.where(edge == 1, 1 - edges, edges).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits[:, 0], edge.to(logits.dtype), weight)


@torch.no_grad()
def boundary_pixels(
    logits: Float[Tensor, "b 1 h w"], mask: UInt8[Tensor, "b h w"], threshold: float = 0.8
) -> UInt8[Tensor, "b h w"]:
    """The mask with VOID where the logits of a boundary give it no more than this probability (PIDNet's code)."""
    return torch.where(logits[:, 0].float().sigmoid() > threshold, mask, VOID)


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
