"""Parts of a training run, made from the sections of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from kerbseg.bundle import load_strictly
from kerbseg.compress.grouping import alpha_at
from kerbseg.core.errors import BundleError, RecipeError
from kerbseg.data.augment import Colour, Geometry
from kerbseg.data.statistics import enet_weights, median_frequency_weights
from kerbseg.losses import at_scores, cross_entropy
from kerbseg.models import SegmentationNet
from kerbseg.train.recipe import Augment, Loss, Recipe
from kerbseg.train.split import Split
from kerbseg.train.task import Augmentation, Criterion


def start_from(net: nn.Module, source: nn.Module, prefix: str, where: str) -> None:
    """Takes the weights under `prefix` from another network; all of both sides' must fit."""
    state = {key: value for key, value in source.state_dict().items() if key.startswith(prefix)}
    own = net.state_dict()
    kept = {key: value for key, value in own.items() if not key.startswith(prefix)}
    if not state:
        raise BundleError(f"{where} holds no weights under {prefix!r}; is it another network?")
    load_strictly(net, kept | state, where)


def alpha_of(recipe: Recipe, steps_per_epoch: int) -> Callable[[int, int], float]:
    """Gradual grouping's alpha in an epoch and at a step, both counted from 0; 0 always without a grouping section.

    Raises RecipeError if alpha is not 0 by the last validation: the best network is chosen among the grouped ones.
    """
    settings, epochs = recipe.grouping, recipe.epochs
    if settings is None:
        return lambda epoch, step: 0.0

    def alpha(epoch: int, step: int) -> float:
        done = epoch / epochs if settings.by == "epoch" else step / (epochs * steps_per_epoch)
        return alpha_at(done, settings.until, settings.schedule)

    validated = epochs // recipe.validate_every * recipe.validate_every  # epochs before the last validation
    if validated and alpha(validated - 1, validated * steps_per_epoch - 1):
        raise RecipeError(
            f"grouping.until={settings.until} of {epochs} epochs leaves no validation with alpha 0 (one every"
            f" {recipe.validate_every}); lower it, or train longer"
        )
    return alpha


def class_weights(loss: Loss, train: Split) -> Tensor | None:
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


def criterion(loss: Loss, weights: Tensor | None) -> Criterion:
    """The recipe's loss of a network on a batch."""

    def compare(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        if loss.at == "scores":
            logits = cast(SegmentationNet, net).scores(image)
            mask = at_scores(mask, (logits.shape[-2], logits.shape[-1]))
        else:
            logits = net(image)
        on_device = None if weights is None else weights.to(logits.device)
        return cross_entropy(logits.float(), mask, on_device, loss.average, loss.smoothing)

    return compare


def augmentation(settings: Augment) -> Augmentation:
    """The recipe's random changes, at the resolution that its schedule has for the share of training done."""
    geometry = Geometry(settings.flip, settings.scale, settings.rotate, settings.translate)
    colour = Colour(
        settings.gate,
        settings.brightness,
        settings.contrast,
        settings.saturation,
        settings.hue,
        settings.jpeg,
        settings.jpeg_quality,
    )

    def augment(image: Tensor, mask: Tensor, done: float) -> tuple[Tensor, Tensor]:
        canvas, zoom = settings.crop or (image.shape[-2], image.shape[-1]), 1.0
        for stretch in settings.zooms:
            if done < stretch.until:
                canvas, zoom = stretch.crop, stretch.zoom
                break
        image, mask = geometry(image, mask, canvas, zoom)
        return colour(image), mask

    return augment
