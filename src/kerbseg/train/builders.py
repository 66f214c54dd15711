"""Parts of a training run, made from the sections of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.compress.grouping import alpha_at
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import RecipeError, did_you_mean
from kerbseg.data.augment import Color, Geometry
from kerbseg.data.loading import Batch
from kerbseg.data.objects import centers
from kerbseg.data.samplers import Places
from kerbseg.data.statistics import enet_weights, median_frequency_weights
from kerbseg.losses import at_scores, cross_entropy, hardest, lovasz_softmax, near_boundaries
from kerbseg.models import SegmentationNet
from kerbseg.train.auxiliary import AuxiliaryLoss, PixelLoss
from kerbseg.train.distill import Distilled, teacher
from kerbseg.train.recipe import Augment, Classification, Loss, Rare, Recipe
from kerbseg.train.shared import globalize_layers
from kerbseg.train.split import CachedSplit
from kerbseg.train.task import Augmentation, NetworkLoss


def alpha_of(recipe: Recipe | Classification, steps_per_epoch: int) -> Callable[[int, int], float]:
    """Gradual grouping's alpha in an epoch and at a step, both counted from 0; 0 always without a grouping section.

    Raises RecipeError if alpha is not 0 by the last validation: the best network is chosen among the grouped ones.
    """
    settings, epochs = recipe.grouping, recipe.epochs
    if settings is None:
        return lambda epoch, step: 0.0

    def alpha(epoch: int, step: int) -> float:
        done = epoch / epochs if settings.by == "epoch" else step / (epochs * steps_per_epoch)
        return alpha_at(done, settings.until, settings.schedule)

    if alpha(epochs - 1, epochs * steps_per_epoch - 1):
        raise RecipeError(
            f"grouping.until={settings.until} of {epochs} epochs leaves no validation with alpha 0; lower it, or train"
            " longer"
        )
    return alpha


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


def pixel_loss(loss: Loss, weights: Tensor | None, process: Rank = SINGLE) -> PixelLoss:
    """The recipe's loss of scores, of a batch or of a process's rows of it.

    Which pixels are hard, and the Lovász-softmax loss, are found among the process's own.
    """

    def loss_of_pixels(logits: Tensor, mask: Tensor) -> Tensor:
        on_device = None if weights is None else weights.to(logits.device)
        pixels = partial(
            cross_entropy, weights=on_device, average=loss.average, smoothing=loss.smoothing, process=process
        )
        hard = hardest(logits, mask, loss.ohem.threshold, loss.ohem.min_kept) if loss.ohem else mask
        total = pixels(logits, hard)
        if loss.boundary is not None:
            total = total + loss.boundary.weight * pixels(logits, near_boundaries(mask, loss.boundary.radius))
        return total + loss.lovasz * lovasz_softmax(logits, mask) if loss.lovasz else total

    return loss_of_pixels


def network_loss(loss_of_pixels: PixelLoss, at: Literal["picture", "scores"]) -> NetworkLoss:
    """The loss of a network's scores, at the picture's size or where the network ends."""

    def compare(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        if at == "picture":
            return loss_of_pixels(net(image).float(), mask)
        logits = cast(SegmentationNet, net).logits(image)
        return loss_of_pixels(logits.float(), at_scores(mask, (logits.shape[-2], logits.shape[-1])))

    return compare


def build_loss(recipe: Recipe, net: nn.Module, train: CachedSplit, process: Rank = SINGLE) -> NetworkLoss:
    """The loss of a network on a batch, with all that a recipe adds to it.

    Raises UserError for a teacher or a place of a head that cannot be used.
    """
    loss_of_pixels = pixel_loss(recipe.loss, class_weights(recipe.loss, train), process)
    found = network_loss(loss_of_pixels, recipe.loss.at)
    if recipe.auxiliary:
        found = AuxiliaryLoss(found, loss_of_pixels, net, recipe.auxiliary, len(train.labels))
        globalize_layers(found, process)
    if recipe.distill is not None:
        if recipe.loss.at != "picture":
            raise RecipeError(
                f"distill compares scores at the picture's size, found loss.at={recipe.loss.at}; drop one"
            )
        known = teacher(recipe.distill, train.labels, models.card(recipe.model.name).preprocessing)
        found = Distilled(found, known, recipe.distill, process)
    return found


def check_compilable(recipe: Recipe) -> None:
    """Raises RecipeError for what looks inside the network at each step, which a compiled one does not let."""
    found = {
        "loss.at=scores": recipe.loss.at == "scores",
        "auxiliary": bool(recipe.auxiliary),
        "distill": recipe.distill is not None,
    }
    for name, there in found.items():
        if there:
            raise RecipeError(f"--compile does not go with {name}; leave one of them away")


def trained_with(network_loss: NetworkLoss) -> list[nn.Parameter]:
    """Weights of a criterion, such as those of heads, which train with the network."""
    return list(network_loss.parameters()) if isinstance(network_loss, nn.Module) else []


def augmentation(settings: Augment, epochs: int, process: Rank = SINGLE) -> Augmentation:
    """The recipe's random changes, as its cycle and its schedule of resolutions have them for an epoch."""
    colour = Color(
        color_p=settings.color_p,
        brightness=settings.brightness,
        contrast=settings.contrast,
        saturation=settings.saturation,
        hue=settings.hue,
        hue_factor=settings.hue_factor,
        jpeg=settings.jpeg,
        jpeg_quality=settings.jpeg_quality,
        rank=process,
    )

    def augment(batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        image, mask = batch["image"].float() / 255, batch["mask"]
        canvas, zoom, rotate = settings.crop or (image.shape[-2], image.shape[-1]), 1.0, settings.rotate
        if settings.cycle:
            turn = settings.cycle[epoch % len(settings.cycle)]
            canvas, rotate = turn.crop, turn.rotate
        for stretch in settings.progressive:
            if epoch / epochs < stretch.until:
                canvas, zoom = stretch.crop, stretch.zoom
                break
        geometry = Geometry(
            settings.flip, settings.scale, rotate, settings.translate, settings.stretch, settings.fill, process
        )
        image, mask = geometry(image, mask, canvas, zoom, batch.get("focus"))
        return colour(image), mask

    return augment


SPECK = 1e-4  # share of a picture's pixels; what is smaller is no object to look at


def places_of(rare: Rare, train: CachedSplit) -> list[Places]:
    """For each rare class, the pictures that have it and the centers of its objects there.

    Raises RecipeError for a class that does not exist, or of which no picture has an object.
    """
    names = train.labels.classes
    for name in rare.classes:
        if name not in names:
            raise RecipeError(
                f"data.rare.classes: label set {train.labels.name!r} has no {name!r}; {did_you_mean(name, names)}"
            )
    found: list[dict[int, list[tuple[float, float]]]] = [{} for _ in rare.classes]
    smallest = round(SPECK * train.size[0] * train.size[1])
    for index in range(len(train.batches)):
        mask = train.batches.__getitems__([index])["mask"][0].cpu().numpy()
        for places, name in zip(found, rare.classes, strict=True):
            if points := centers(mask, names.index(name), smallest):
                places[index] = points
    for places, name in zip(found, rare.classes, strict=True):
        if not places:
            raise RecipeError(f"data.rare.classes: no training picture shows a {name!r}; leave the class out")
    return list(found)
