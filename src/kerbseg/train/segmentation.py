"""What a run trains where a recipe segments: pictures, network and loss; and what is measured and saved of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, save, versions
from kerbseg.compress.grouping import collapse
from kerbseg.core.errors import KerbsegWarning
from kerbseg.core.outline import outlines
from kerbseg.data.loading import Batch, rare_loader, training_loader, validation_loader
from kerbseg.data.samplers import RareShuffle
from kerbseg.metrics import compute_metrics
from kerbseg.train.builders import (
    augmentation,
    check_one_picture,
    check_options,
    output_count,
    places_of,
    xavier_uniform,
)
from kerbseg.train.heads import freeze_others, heads_of, without_heads
from kerbseg.train.machine import Machine
from kerbseg.train.matching import Target
from kerbseg.train.network_loss import build_loss
from kerbseg.train.norm import set_bn_momentum
from kerbseg.train.optim import movement
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_sense import check_heads
from kerbseg.train.recorder import ValidationResult
from kerbseg.train.shared import globalize_layers
from kerbseg.train.split import CachedSplit, open_split
from kerbseg.train.task import SegmentationTask


class Segmentation:
    """A segmentation network, and the splits that it learns from and is measured on.

    Raises KerbsegError for a network that cannot be made, or data that cannot be used.
    """

    def __init__(self, recipe: Recipe, machine: Machine) -> None:
        self.recipe, self._machine = recipe, machine
        self._card = models.card(recipe.model.name)
        # a wrong option is named before any data is read
        check_options(lambda: models.create_model(recipe.model.name, **recipe.model.options))
        if recipe.heads:
            name = recipe.model.name
            check_heads(name, recipe.heads, heads_of(name, recipe.model.options))
        self.train = self._open(recipe.data.train, recipe.data.train_names)
        absent = self.train.absent_classes()
        self.outputs = output_count(recipe.model, len(self.train.labels))
        self.val = self._open((recipe.data.val,), recipe.data.val_names, validates=True)
        self.init = recipe.model.init
        if machine.rank.index == 0 and absent:
            shown = ", ".join(map(repr, absent[:5])) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            what = f"no training pixel is of {shown}, which the network cannot learn; see kerbseg doctor"
            warnings.warn(KerbsegWarning(what), stacklevel=2)

    def create(self) -> nn.Module:
        """The network with fresh weights."""
        net = models.create_model(self.recipe.model.name, self.outputs, **self.recipe.network_options)
        if self.recipe.heads:
            freeze_others(net, self.recipe.heads)
        if self.recipe.model.initialization == "xavier_uniform":
            net.apply(xavier_uniform)
        if self.recipe.norm_momentum is not None:
            set_bn_momentum(net, self.recipe.norm_momentum)
        return net

    def target(self) -> Target:
        """What initial weights are matched with."""
        model = self.recipe.model
        return Target.of(
            self.train.labels.classes,
            lambda classes: models.create_model(model.name, classes, **model.options),
            self.outputs - len(self.train.labels),
        )

    def loaders(self) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
        """Batches of training, with extra pictures of rare classes where the recipe wants them, and of validation."""
        recipe, (workers, rank) = self.recipe, (self._machine.workers, self._machine.rank)
        if (rare := recipe.data.rare) is None:
            train = training_loader(self.train.batches, recipe.batch_size, recipe.seed, workers, rank, recipe.drop_last)
        else:
            order = RareShuffle(len(self.train.batches), places_of(rare, self.train), rare.extra, recipe.seed)
            train = rare_loader(self.train.batches, order, recipe.batch_size, workers, rank, recipe.drop_last)
        return train, validation_loader(self.val.batches, recipe.batch_size, workers, rank)

    def task(self, net: nn.Module, steps_per_epoch: int) -> SegmentationTask:
        """What a step does with the network."""
        recipe, rank = self.recipe, self._machine.rank
        pictures, batch_size = self._pictures(), recipe.batch_size
        if batch_size == 1 or (not recipe.drop_last and pictures % batch_size == 1):
            check_one_picture(net, self._card.stride, pictures, batch_size)
        network_loss = build_loss(recipe, net, self.train, rank, self.outputs)
        globalize_layers(net, rank)
        outputs = NetworkOutputs(net, [*(head.at for head in recipe.auxiliary), *recipe.heads])
        if self._machine.compile:
            outputs.compile()  # in place: weights keep their names
        return SegmentationTask(
            outputs,
            classes=len(self.train.labels),
            stride=self._card.stride,
            preprocessing=self._card.preprocessing,
            augment=augmentation(recipe.augment, recipe.epochs, rank),
            network_loss=network_loss,
            movement=movement(recipe, net, steps_per_epoch, network_loss.parameters()),
        )

    def measure(self, task: SegmentationTask) -> ValidationResult:
        """The figures of a validation, after which the task counts anew."""
        metrics = compute_metrics(task.confusion.compute(), self.train.labels)
        task.confusion.reset()
        loss = float(task.val_loss.compute())
        figures: dict[str, Any] = {
            "miou": metrics.miou,
            "class_iou": dict(metrics.class_iou),
            "pixel_accuracy": metrics.pixel_accuracy,
        }
        row = {
            "val_miou": metrics.miou,
            "val_pixel_accuracy": metrics.pixel_accuracy,
            **{f"val_iou/{name}": value for name, value in metrics.class_iou.items()},
        }
        return ValidationResult(
            "val_miou", metrics.miou, loss, row, figures, self.train.labels, metrics.confusion, task.shown
        )

    def save(self, net: nn.Module, path: Path, epoch: int, result: ValidationResult) -> None:
        """Writes the network as it is now, with the card that says what it is."""
        data = self.recipe.data
        protocol = {"data": data.name, "split": data.val, "label_size": list(self.val.size), "tta": "none"}
        if data.val_names:
            protocol["names"] = list(data.val_names)
        if data.val_crop:
            protocol["part"] = "center"
        card = BundleCard(
            model=self.recipe.model.name,
            labels=self.train.labels,
            preprocessing=self._card.preprocessing,
            input_size=self.train.size if data.val_size is None else data.val_size,
            outputs=self.outputs,
            resample=data.resample,
            options=self.recipe.model.options,
            recipe=self.recipe.to_dict(),
            scores={**result.metrics, "epoch": epoch, "protocol": protocol},
            source="trained by kerbseg",
            versions=versions(),
        )
        net = collapse(net) if self.recipe.grouping else net
        if self.recipe.heads:
            with outlines():  # it takes over all weights
                plain = models.create_model(card.model, self.outputs, **card.options)
            net = without_heads(net, plain)
        save(Bundle(net, card), path)

    def _pictures(self) -> int:
        """Of an epoch of training."""
        rare = self.recipe.data.rare
        return len(self.train.batches) + (0 if rare is None else rare.extra * len(rare.classes))

    def _open(self, splits: tuple[str, ...], names: tuple[str, ...], validates: bool = False) -> CachedSplit:
        machine = self._machine
        return open_split(self.recipe.data, splits, machine.data_root, machine.cache, machine.device, names, validates)
