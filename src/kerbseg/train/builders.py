"""Parts of a training run, made from the sections of a recipe."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from kerbseg.compress.grouping import alpha_at
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import InputError, RecipeError, did_you_mean
from kerbseg.core.limits import MOST_PARAMETERS
from kerbseg.core.outline import outlines
from kerbseg.data.augment import Color, Geometry, Turn
from kerbseg.data.loading import Batch
from kerbseg.data.objects import centers
from kerbseg.data.samplers import Places
from kerbseg.models import pad_to_stride
from kerbseg.train.recipe import AnyRecipe, Augment, Model, Rare
from kerbseg.train.split import CachedSplit
from kerbseg.train.task import Augmentation, Augmented


def check_options(create: Callable[[], nn.Module]) -> None:
    """Raises RecipeError where a network cannot be made of its options; nothing is allocated."""
    try:
        with outlines():
            parameters = sum(parameter.numel() for parameter in create().parameters())
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError, AssertionError) as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        raise RecipeError(f"model.options make no network ({why}); correct them, or leave them away") from error
    if parameters > MOST_PARAMETERS:
        raise RecipeError(f"model.options make a network of {parameters:,} parameters; lower them")


def check_one_picture(net: nn.Module, stride: int, pictures: int, batch_size: int) -> None:
    """Raises RecipeError where a network cannot train on one picture alone, as a batch of this training has it."""
    trial = copy.deepcopy(net).train()
    picture = pad_to_stride(torch.zeros(1, 3, 8 * stride, 8 * stride), stride)  # as small as networks take them
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            trial(picture)
    except (InputError, ValueError) as error:
        why = str(error).partition(";")[0]
        if "more than 1 value per channel" in why:  # torch's own words
            why = "its batch-norm would average over a single value"
        if pictures == 1:
            what, remedy = "there is 1 training picture alone", "add another, and set batch_size=2"
        elif batch_size == 1:
            what, remedy = "each batch is 1 picture", "set batch_size=2 or more"
        else:
            what, remedy = "an epoch ends with a batch of 1 picture", "set drop_last=true"
        raise RecipeError(f"{what}: {why}; {remedy}") from error


def output_count(model: Model, classes: int) -> int:
    """Channels of a recipe's logits. Raises RecipeError for fewer than there are classes."""
    outputs = classes if model.outputs is None else model.outputs
    if outputs < classes:
        raise RecipeError(f"model.outputs={outputs} is less than the {classes} classes of the data; leave it away")
    return outputs


def xavier_uniform(module: nn.Module) -> None:
    """Draws a convolution's weights by Glorot's uniform rule, and sets its biases to 0, as TensorFlow does.

    The rule takes the sum of both fans, so it is the same of a depthwise and of a transposed convolution, whose fans
    TensorFlow counts the other way round.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def alpha_of(recipe: AnyRecipe, steps_per_epoch: int) -> Callable[[int, int], float]:
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


def augmentation(settings: Augment, epochs: int, rank: Rank = SINGLE) -> Augmentation:
    """The recipe's random changes, as its cycle and its schedule of resolutions have them for an epoch."""
    change_color = Color(
        color_p=settings.color_p,
        brightness=settings.brightness,
        brightness_p=settings.brightness_p,
        contrast=settings.contrast,
        contrast_p=settings.contrast_p,
        saturation=settings.saturation,
        saturation_p=settings.saturation_p,
        hue=settings.hue,
        hue_p=settings.hue_p,
        shuffle=settings.shuffle,
        hue_factor=settings.hue_factor,
        gamma=settings.gamma,
        gamma_p=settings.gamma_p,
        channel_balance=settings.channel_balance,
        channel_balance_p=settings.channel_balance_p,
        gray=settings.gray,
        gray_p=settings.gray_p,
        blur=settings.blur,
        blur_p=settings.blur_p,
        noise=settings.noise,
        noise_p=settings.noise_p,
        jpeg=settings.jpeg,
        jpeg_quality=settings.jpeg_quality,
        offset=settings.offset,
        offset_p=settings.offset_p,
        mid_contrast=settings.mid_contrast,
        mid_contrast_p=settings.mid_contrast_p,
        jpeg_first=settings.jpeg_first,
        rank=rank,
    )

    def augment(batch: Batch, epoch: int) -> Augmented:
        image, maps = batch["image"].float() / 255, batch["mask"]
        if "edge" in batch:  # goes wherever the mask goes
            maps = torch.stack([maps, batch["edge"]], 1)
        canvas, zoom, rotate = settings.crop or (image.shape[-2], image.shape[-1]), 1.0, settings.rotate
        turn = settings.turn
        if settings.cycle:
            step = settings.cycle[epoch % len(settings.cycle)]
            canvas, rotate, turn = step.crop, step.rotate, step.turn
        for stage in settings.progressive:
            if epoch / epochs < stage.until:
                canvas, zoom = stage.crop, stage.zoom
                break
        geometry = Geometry(
            settings.flip,
            settings.scale,
            rotate,
            settings.translate,
            settings.stretch,
            settings.fill,
            shift=settings.shift,
            centered=settings.place == "center",
            cornered=settings.place == "corner",
            scale_step=settings.scale_step,
            border=settings.border,
            unit=settings.scale_of,
            resample=None if settings.resample == "warp" else settings.resample,
            rank=rank,
        )
        image, maps = geometry(image, maps, canvas, zoom, batch.get("focus"))
        chosen = change_color.choose(len(image))
        image = change_color(image, chosen)
        if turn:
            image, maps = Turn(turn, settings.border, rank)(image, maps, chosen)
        if "edge" not in batch:
            return Augmented(image, maps)
        return Augmented(image, maps[:, 0], (maps[:, 1] == 1).to(torch.uint8))  # none where VOID came in

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
    places_by_class: list[dict[int, list[tuple[float, float]]]] = [{} for _ in rare.classes]
    smallest = round(SPECK * train.size[0] * train.size[1])
    for index in range(len(train.batches)):
        mask = train.batches.__getitems__([index])["mask"][0].cpu().numpy()
        for places, name in zip(places_by_class, rare.classes, strict=True):
            if points := centers(mask, names.index(name), smallest):
                places[index] = points
    for places, name in zip(places_by_class, rare.classes, strict=True):
        if not places:
            raise RecipeError(f"data.rare.classes: no training picture shows a {name!r}; leave the class out")
    return list(places_by_class)
