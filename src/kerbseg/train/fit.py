"""`fit(recipe)`: the parts of a recipe, put together and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, load, save, versions
from kerbseg.compress.grouping import collapse, fade, make_dense
from kerbseg.core.distributed import Rank
from kerbseg.data.loading import Batch, rare_loader, training_loader, validation_loader
from kerbseg.data.samplers import RareShuffle
from kerbseg.metrics import compute_metrics
from kerbseg.train.builders import alpha_of, augmentation, build_loss, check_compilable, places_of, trained_with
from kerbseg.train.callbacks import RunRecorder, ValidationResult
from kerbseg.train.engine import (
    Device,
    callbacks_for,
    check_compiling,
    prepare,
    run_to_end,
    this_process,
    training_device,
)
from kerbseg.train.grouping import GradualGrouping
from kerbseg.train.initial import load_initial_weights
from kerbseg.train.norm import set_bn_momentum
from kerbseg.train.optim import optimizer, parameter_groups, schedule, schedules
from kerbseg.train.recipe import Recipe
from kerbseg.train.shared import globalize_layers
from kerbseg.train.split import Cache, CachedSplit, open_split
from kerbseg.train.task import SegmentationTask


def fit(
    recipe: Recipe,
    run: str | Path,
    *,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    workers: int = 0,
    cache: Cache = "auto",
    compile: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Bundle:
    """Trains as the recipe says and returns the best bundle by validation mIoU.

    Writes into `run`: recipe.yaml, metrics.csv, tensorboard/, last.ckpt (after each epoch), best.safetensors,
    last.safetensors. A run that was cut off goes on with `resume` and ends with the same weights. Several devices share
    each batch of the recipe, and give the result of one.
    Raises UserError for data, recipes or folders that cannot be used; KeyboardInterrupt after Ctrl-C.
    """
    run = Path(run)
    process = this_process(devices, recipe)
    place = training_device(device, recipe, process)
    if compile:
        check_compilable(recipe)
        check_compiling(place, process)
    facts = models.card(recipe.model.name)
    with torch.device("meta"):  # a wrong option is told before any data is read
        models.create_model(recipe.model.name, **recipe.model.options)
    train = open_split(recipe.data, recipe.data.train, data_root, cache, place)
    val = open_split(recipe.data, (recipe.data.val,), data_root, cache, place)
    prepare(run, recipe, resume, process)
    torch.manual_seed(recipe.seed)
    net = models.create_model(recipe.model.name, len(train.labels), **recipe.model.options)
    groups = {} if recipe.grouping is None else make_dense(net, recipe.grouping.select)
    if initial is not None:
        load_initial_weights(net, initial, recipe.model.init)
    fade(net, groups)
    if recipe.norm_momentum is not None:
        set_bn_momentum(net, recipe.norm_momentum)
    net = models.channels_last(net)
    network_loss = build_loss(recipe, net, train, process)
    globalize_layers(net, process)
    if compile:
        net.compile()  # in place: weights keep their names
    loader = _loader(recipe, train, workers, process)
    task = SegmentationTask(
        net,
        classes=len(train.labels),
        stride=facts.stride,
        preprocessing=facts.preprocessing,
        augment=augmentation(recipe.augment, recipe.epochs, process),
        network_loss=network_loss,
        optimizer=lambda module: optimizer(
            parameter_groups(module, recipe.optim.groups, trained_with(network_loss)), recipe.optim
        ),
        schedules=schedules(schedule(recipe.schedule, recipe.epochs, len(loader)), recipe.optim, len(loader)),
    )
    grouping = GradualGrouping(net, alpha_of(recipe, len(loader)))
    writer = BundleWriter(net, recipe, train, val)
    results = RunRecorder(run, lambda: outcome(task, train), writer, eligible=grouping.fully_grouped)
    run_to_end(
        task,
        recipe,
        run,
        (loader, validation_loader(val.batches, recipe.batch_size, workers, process)),
        [*callbacks_for(recipe, net, grouping, results), *callbacks],
        device=place,
        process=process,
        resume=resume,
    )
    return load(run / "best.safetensors")


def outcome(task: SegmentationTask, data: CachedSplit) -> ValidationResult:
    """The scores of a validation, after which the task counts anew."""
    found = compute_metrics(task.confusion.compute(), data.labels)
    task.confusion.reset()
    figures: dict[str, Any] = {
        "miou": found.miou,
        "class_iou": dict(found.class_iou),
        "pixel_accuracy": found.pixel_accuracy,
    }
    row = {
        "val_miou": found.miou,
        "val_pixel_accuracy": found.pixel_accuracy,
        **{f"val_iou/{name}": value for name, value in found.class_iou.items()},
    }
    return ValidationResult("val_miou", found.miou, row, figures)


def _loader(recipe: Recipe, train: CachedSplit, workers: int, process: Rank) -> DataLoader[Batch]:
    """Batches in random order, with extra pictures of rare classes where the recipe wants them."""
    if (rare := recipe.data.rare) is None:
        return training_loader(train.batches, recipe.batch_size, recipe.seed, workers, process)
    order = RareShuffle(len(train.batches), places_of(rare, train), rare.extra, recipe.seed)
    return rare_loader(train.batches, order, recipe.batch_size, workers, process)


@dataclass(frozen=True)
class BundleWriter:
    """Writes the network as it is now, with the card that says what it is."""

    net: nn.Module
    recipe: Recipe
    train: CachedSplit
    val: CachedSplit

    def __call__(self, path: Path, epoch: int, found: ValidationResult) -> None:
        data = self.recipe.data
        protocol = {"data": data.name, "split": data.val, "label_size": list(self.val.size), "tta": "none"}
        card = BundleCard(
            model=self.recipe.model.name,
            labels=self.train.labels,
            preprocessing=models.card(self.recipe.model.name).preprocessing,
            input_size=self.train.size,
            outputs=len(self.train.labels),
            options=self.recipe.model.options,
            recipe=self.recipe.to_dict(),
            scores={**found.scores, "epoch": epoch, "protocol": protocol},
            source="trained by kerbseg",
            versions=versions(),
        )
        save(Bundle(collapse(self.net) if self.recipe.grouping else self.net, card), path)
