"""The loss of a network's outputs on a batch, with all that a recipe adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

import kerbseg.models as models
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.train.auxiliary import AuxiliaryLoss
from kerbseg.train.distill import DistillationLoss, teachers
from kerbseg.train.heads import HeadsLoss, check_kinds
from kerbseg.train.outputs import Outputs
from kerbseg.train.pixel_loss import PixelLoss, class_weights, lovasz_loss, pixel_loss
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_loss import Loss
from kerbseg.train.recipe_values import Place
from kerbseg.train.shared import globalize_layers
from kerbseg.train.split import CachedSplit


class NetworkLoss(nn.Module):
    """The sum of losses on the labels, of heads and of teachers; what of it has weights trains with the network."""

    def __init__(
        self,
        terms: Sequence[tuple[PixelLoss, Place]],
        auxiliary: AuxiliaryLoss | None = None,
        distillation: DistillationLoss | None = None,
        epochs: int = 1,
        heads: HeadsLoss | None = None,
    ) -> None:
        super().__init__()
        self._terms, self._epochs, self.heads = tuple(terms), epochs, heads
        self.auxiliary, self.distillation = auxiliary, distillation

    def forward(
        self, outputs: Outputs, image: Tensor, mask: Tensor, epoch: int = 0, edge: Tensor | None = None
    ) -> Tensor:
        done = epoch / self._epochs
        losses = [term(*outputs.at(place, mask), done) for term, place in self._terms]
        if self.auxiliary is not None:
            losses += self.auxiliary(outputs.features, mask, done)
        if self.heads is not None:
            losses += self.heads(outputs, mask, edge, done)
        if self.distillation is not None:
            losses.append(self.distillation(outputs, image, mask))
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total


def build_loss(
    recipe: Recipe, net: nn.Module, train: CachedSplit, rank: Rank = SINGLE, outputs: int | None = None
) -> NetworkLoss:
    """The recipe's loss of a network, which may have more `outputs` than classes.

    Raises KerbsegError for a teacher, a place of a head or a kind of one that cannot be used.
    """
    outputs = len(train.labels) if outputs is None else outputs
    weights = class_weights(recipe.loss, train)
    if weights is not None:  # an output beyond the classes is never a target
        weights = F.pad(weights, (0, outputs - len(weights)))
    auxiliary = distillation = None
    if recipe.auxiliary:
        everything = pixel_loss(recipe.loss, weights, rank)
        auxiliary = AuxiliaryLoss(everything, net, recipe.auxiliary, outputs)
        globalize_layers(auxiliary, rank)
    if recipe.distill is not None:
        known = teachers(recipe.distill, train.labels, models.card(recipe.model.name).preprocessing)
        distillation = DistillationLoss(known, recipe.distill, rank)
    heads = None
    if recipe.heads:
        check_kinds(net, recipe.heads, outputs)
        heads = HeadsLoss(recipe.heads, recipe.loss, weights, rank)
    return NetworkLoss(loss_terms(recipe.loss, weights, rank), auxiliary, distillation, recipe.epochs, heads)


def loss_terms(loss: Loss, weights: Tensor | None, rank: Rank = SINGLE) -> list[tuple[PixelLoss, Place]]:
    """The losses on the labels, each with the place where it compares."""
    apart = loss.lovasz
    if apart is None or apart.at in (None, loss.at):
        return [(pixel_loss(loss, weights, rank), loss.at)]
    assert apart.at is not None
    return [(pixel_loss(replace(loss, lovasz=None), weights, rank), loss.at), (lovasz_loss(apart, rank), apart.at)]
