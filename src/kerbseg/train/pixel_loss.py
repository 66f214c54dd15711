"""The loss of logits on labels of their size, as the loss section of a recipe has it."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import RecipeError
from kerbseg.data.statistics import enet_weights, median_frequency_weights
from kerbseg.losses import (
    cross_entropy,
    hardest,
    hardest_hrnet,
    hardest_paddleseg,
    lovasz_softmax,
    mean_of_hard,
    near_boundaries,
)
from kerbseg.train.recipe_loss import Loss, Lovasz
from kerbseg.train.split import CachedSplit

# how pixels are chosen, and the share of all pixels that is added to the number which they are divided by
RULES = {"hrnet": (hardest_hrnet, 0.0), "paddleseg": (hardest_paddleseg, 1e-5)}


class PixelLoss(Protocol):
    """A loss of logits of any size on labels of that size, when the share `done` of training is over."""

    def __call__(
        self, logits: Float[Tensor, "b k h w"], mask: UInt8[Tensor, "b h w"], done: float = 0.0, /
    ) -> Float[Tensor, ""]: ...


def pixel_loss(loss: Loss, weights: Tensor | None, rank: Rank = SINGLE) -> PixelLoss:
    """The recipe's loss, of a batch or of a process's rows of it."""
    added = None if loss.lovasz is None else lovasz_loss(loss.lovasz, rank)
    placed = weights

    def loss_of_pixels(logits: Tensor, mask: Tensor, done: float = 0.0, /) -> Tensor:
        nonlocal placed
        if placed is not None:
            placed = placed.to(logits.device)  # once: a copy in each step would make a GPU wait for it
        pixels = partial(cross_entropy, weights=placed, average=loss.average, smoothing=loss.smoothing, rank=rank)
        if loss.ohem is None:
            total = pixels(logits, mask)
        elif loss.ohem.rule == "share":
            total = pixels(logits, hardest(logits, mask, loss.ohem.threshold, loss.ohem.min_kept, rank))
        else:
            rule, slack = RULES[loss.ohem.rule]
            hard = rule(logits, mask, loss.ohem.threshold, loss.ohem.min_kept, rank)
            total = mean_of_hard(logits, hard, placed, slack, loss.smoothing, rank)
        if loss.boundary is not None:
            total = total + loss.boundary.weight * pixels(logits, near_boundaries(mask, loss.boundary.radius))
        return total if added is None else total + added(logits, mask, done)

    return loss_of_pixels


def lovasz_loss(settings: Lovasz, rank: Rank = SINGLE) -> PixelLoss:
    """The Lovász-softmax loss times its weight, once training has come so far; 0 before."""

    def loss_of_pixels(logits: Tensor, mask: Tensor, done: float = 0.0, /) -> Tensor:
        if done < settings.start:
            return logits.new_zeros(())
        return settings.weight * lovasz_softmax(logits, mask, rank)

    return loss_of_pixels


def class_weights(loss: Loss, train: CachedSplit) -> Tensor | None:
    """The recipe's class weights. Raises RecipeError if a list is not one value a class."""
    k = len(train.labels)
    if loss.weights == "none":
        return None
    if loss.weights == "list":
        if len(loss.values) != k:
            raise RecipeError(f"loss.values has {len(loss.values)} weights for {k} classes; give one a class")
        return torch.tensor(loss.values)
    counts, void = train.counts()
    if loss.weights == "enet":
        return torch.as_tensor(enet_weights(counts, void, loss.constant), dtype=torch.float32)
    return torch.as_tensor(median_frequency_weights(counts, loss.power), dtype=torch.float32)
