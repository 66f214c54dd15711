"""Parts of a training run, made from the sections of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.compress.grouping import alpha_at
from kerbseg.core.errors import RecipeError, nearest
from kerbseg.core.processes import ALONE, Process
from kerbseg.data.augment import Colour, Geometry
from kerbseg.data.loading import Batch, Places
from kerbseg.data.objects import centres
from kerbseg.data.statistics import enet_weights, median_frequency_weights
from kerbseg.losses import at_scores, cross_entropy, hardest, lovasz_softmax, near_boundaries
from kerbseg.models import SegmentationNet
from kerbseg.train.auxiliary import Judge, WithHeads
from kerbseg.train.distill import Distilled, teacher
from kerbseg.train.recipe import Augment, Classification, Loss, Rare, Recipe
from kerbseg.train.shared import share
from kerbseg.train.split import Split
from kerbseg.train.task import Augmentation, Criterion


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


def judge(loss: Loss, weights: Tensor | None, process: Process = ALONE) -> Judge:
    """The recipe's loss of scores, of a batch or of a process's rows of it.

    Which pixels are hard, and the Lovász-softmax loss, are found among the process's own.
    """

    def judged(logits: Tensor, mask: Tensor) -> Tensor:
        on_device = None if weights is None else weights.to(logits.device)
        pixels = partial(
            cross_entropy, weights=on_device, average=loss.average, smoothing=loss.smoothing, process=process
        )
        hard = hardest(logits, mask, loss.ohem.threshold, loss.ohem.fewest) if loss.ohem else mask
        total = pixels(logits, hard)
        if loss.boundary is not None:
            total = total + loss.boundary.weight * pixels(logits, near_boundaries(mask, loss.boundary.radius))
        return total + loss.lovasz * lovasz_softmax(logits, mask) if loss.lovasz else total

    return judged


def criterion(judged: Judge, at: Literal["picture", "scores"]) -> Criterion:
    """The loss of a network's scores, at the picture's size or where the network ends."""

    def compare(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        if at == "picture":
            return judged(net(image).float(), mask)
        logits = cast(SegmentationNet, net).scores(image)
        return judged(logits.float(), at_scores(mask, (logits.shape[-2], logits.shape[-1])))

    return compare


def objective(recipe: Recipe, net: nn.Module, train: Split, process: Process = ALONE) -> Criterion:
    """The loss of a network on a batch, with all that a recipe adds to it.

    Raises UserError for a teacher or a place of a head that cannot be used.
    """
    judged = judge(recipe.loss, class_weights(recipe.loss, train), process)
    found = criterion(judged, recipe.loss.at)
    if recipe.auxiliary:
        found = WithHeads(found, judged, net, recipe.auxiliary, len(train.labels))
        share(found, process)
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


def trained_with(criterion: Criterion) -> list[nn.Parameter]:
    """Weights of a criterion, such as those of heads, which train with the network."""
    return list(criterion.parameters()) if isinstance(criterion, nn.Module) else []


def augmentation(settings: Augment, epochs: int, process: Process = ALONE) -> Augmentation:
    """The recipe's random changes, as its cycle and its schedule of resolutions have them for an epoch."""
    colour = Colour(
        gate=settings.gate,
        brightness=settings.brightness,
        contrast=settings.contrast,
        saturation=settings.saturation,
        hue=settings.hue,
        hue_factor=settings.hue_factor,
        jpeg=settings.jpeg,
        jpeg_quality=settings.jpeg_quality,
        process=process,
    )

    def augment(batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        image, mask = batch["image"].float() / 255, batch["mask"]
        canvas, zoom, rotate = settings.crop or (image.shape[-2], image.shape[-1]), 1.0, settings.rotate
        if settings.cycle:
            turn = settings.cycle[epoch % len(settings.cycle)]
            canvas, rotate = turn.crop, turn.rotate
        for stretch in settings.zooms:
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


def places_of(rare: Rare, train: Split) -> list[Places]:
    """For each rare class, the pictures that have it and the centres of its objects there.

    Raises RecipeError for a class that does not exist, or of which no picture has an object.
    """
    names = train.labels.classes
    for name in rare.classes:
        if name not in names:
            raise RecipeError(
                f"data.rare.classes: label set {train.labels.name!r} has no {name!r}; {nearest(name, names)}"
            )
    found: list[dict[int, list[tuple[float, float]]]] = [{} for _ in rare.classes]
    smallest = round(SPECK * train.size[0] * train.size[1])
    for index in range(len(train.batches)):
        mask = train.batches.__getitems__([index])["mask"][0].cpu().numpy()
        for places, name in zip(found, rare.classes, strict=True):
            if points := centres(mask, names.index(name), smallest):
                places[index] = points
    for places, name in zip(found, rare.classes, strict=True):
        if not places:
            raise RecipeError(f"data.rare.classes: no training picture shows a {name!r}; leave the class out")
    return list(found)
