"""The losses of a network's own heads, which exist while training only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import RecipeError
from kerbseg.core.outline import outlines
from kerbseg.core.text import counted
from kerbseg.losses import boundary_loss, boundary_pixels
from kerbseg.models import SegmentationNet
from kerbseg.train.outputs import Outputs, channels_at
from kerbseg.train.pixel_loss import PixelLoss, pixel_loss
from kerbseg.train.recipe_loss import Head, Loss, PixelHead


class HeadsLoss:
    """The losses of a network's own heads, by the names that a recipe and the network call them.

    They have no weights of their own: a head's are the network's, so they train, move and resume with it.
    """

    def __init__(self, heads: Mapping[str, Head], loss: Loss, weights: Tensor | None, rank: Rank = SINGLE) -> None:
        self._heads, self._rank, self._at = dict(heads), rank, loss.at
        self._pixel_losses = {name: _loss_of(head, loss, weights, rank) for name, head in heads.items()}

    def __call__(self, outputs: Outputs, mask: Tensor, edge: Tensor | None = None, done: float = 0.0) -> list[Tensor]:
        """The loss of each head, times its weight; a boundary's has what it adds to that of the logits beside it."""
        losses = []
        for name, head in self._heads.items():
            if isinstance(head, PixelHead):
                logits, labels = outputs.brought(outputs.features[name], self._at, mask)
                losses.append(head.weight * self._pixel_losses[name](logits, labels, done))
                continue
            assert edge is not None, "a recipe with a boundary head has data.edges"
            boundary, _ = outputs.brought(outputs.features[name], "picture", mask)
            losses.append(head.weight * boundary_loss(boundary, edge, self._rank))
            if head.aware:
                inside = boundary_pixels(boundary, mask, head.threshold)
                logits, labels = outputs.at(self._at, inside)
                losses.append(head.aware * self._pixel_losses[name](logits, labels, done))
        return losses


def _loss_of(head: Head, loss: Loss, weights: Tensor | None, rank: Rank) -> PixelLoss:
    """The cross entropy of the logits' loss, without what is added to that."""
    plain = replace(loss, boundary=None, lovasz=None)
    if isinstance(head, PixelHead) and not head.ohem:
        plain = replace(plain, ohem=None, average=head.average or loss.average)
    return pixel_loss(plain, weights, rank)


def heads_of(model: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The heads that a registered network has while it trains; nothing is allocated."""
    if models.card(model).parameters_with_heads is None:
        return ()
    with outlines():
        return models.create_model(model, **{**options, "heads": True}).heads


def check_kinds(net: nn.Module, heads: Mapping[str, Head], outputs: int) -> None:
    """Raises RecipeError for a head whose loss is not for what it gives: classes, or whether there is a boundary."""
    for (name, head), width in zip(heads.items(), channels_at(net, list(heads)), strict=True):
        wanted = outputs if head.loss == "pixel" else 1
        if width != wanted:
            gives, other = counted(width, "channel"), "boundary" if width == 1 else "pixel"
            raise RecipeError(f"heads.{name}: it gives {gives}, loss: {head.loss} takes {wanted}; say loss: {other}")


def freeze_others(net: SegmentationNet, heads: Mapping[str, Head]) -> None:
    """Lets heads stand still that no loss is of: processes that train together wait for the gradient of each weight."""
    for name in net.heads:
        if name not in heads:
            net.get_submodule(name).requires_grad_(False)


def without_heads(net: nn.Module, plain: SegmentationNet) -> SegmentationNet:
    """The `plain` network, made without heads, with the weights of one that has them; on the meta device it is made."""
    heads = tuple(f"{name}." for name in getattr(net, "heads", ()))
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith(heads)}, assign=True)
    return plain
