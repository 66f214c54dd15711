"""What a run trains where a recipe classifies: bodies that segmentation networks start from."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric

from kerbseg.bundle import versions
from kerbseg.compress.grouping import collapse
from kerbseg.core.types import Preprocessing
from kerbseg.data.imagefolder import CenterSquares, ClassBatch, RandomSquares, class_loader, open_folders
from kerbseg.models.classifiers import create_classifier, kind
from kerbseg.train.builders import check_options
from kerbseg.train.initial import ClassifierCard, save_classifier
from kerbseg.train.machine import Machine
from kerbseg.train.matching import Target
from kerbseg.train.optim import Movement, movement
from kerbseg.train.recipe import Classification
from kerbseg.train.recorder import ValidationResult
from kerbseg.train.shared import globalize_layers
from kerbseg.train.task import TrainingTask


class ClassificationTask(TrainingTask):
    """Trains a classifier on squares of uint8; validation counts how many of them it names rightly."""

    def __init__(self, net: nn.Module, *, preprocessing: Preprocessing, smoothing: float, movement: Movement) -> None:
        super().__init__(preprocessing, movement)
        self.net = net
        self.accuracy, self.val_loss = MeanMetric(), MeanMetric(nan_strategy="disable")
        self._smoothing = smoothing

    def training_step(self, batch: ClassBatch, index: int) -> Float[Tensor, ""]:
        """The loss of one batch, whose squares the loader has drawn already."""
        logits = self.logits(batch["image"])
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=self._smoothing)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(logits), sync_dist=True)
        return loss

    def validation_step(self, batch: ClassBatch, index: int) -> None:
        """Adds one batch to the share of right answers, and its cross entropy to the validation loss."""
        logits = self.logits(batch["image"])
        self.val_loss.update(F.cross_entropy(logits, batch["label"]), len(logits))
        self.log("val_loss", self.val_loss, on_epoch=True, batch_size=len(logits))
        self.accuracy.update((logits.argmax(1) == batch["label"]).float())

    def logits(self, image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of the classes."""
        normal = self.normalize(image.float() / 255).contiguous(memory_format=torch.channels_last)
        return self.net(normal).float()


class Classifying:
    """A classifier, and the folders of pictures that it learns from and is measured on.

    What comes out is no bundle, since it segments nothing: `--init` of a segmentation recipe takes its body. Raises
    KerbsegError for a classifier that cannot be made, or data that cannot be used.
    """

    init: str | tuple[str, ...] = ""  # all weights that fit are taken from `--init`

    def __init__(self, recipe: Classification, machine: Machine) -> None:
        self.recipe, self._machine = recipe, machine
        # a wrong option is named before any data is read
        check_options(lambda: create_classifier(recipe.model.name, 2, **recipe.model.options))
        data = recipe.data
        self.train, self.val = open_folders(data.name, data.train, data.val, machine.data_root, data.limit)

    def create(self) -> nn.Module:
        """The network with fresh weights."""
        return create_classifier(self.recipe.model.name, len(self.train.classes), **self.recipe.model.options)

    def target(self) -> Target:
        """What initial weights are matched with."""
        model = self.recipe.model
        return Target.of(self.train.classes, lambda classes: create_classifier(model.name, classes, **model.options))

    def loaders(self) -> tuple[DataLoader[ClassBatch], DataLoader[ClassBatch]]:
        """Batches of training and of validation."""
        recipe, (workers, rank) = self.recipe, (self._machine.workers, self._machine.rank)
        squares = RandomSquares(self.train, recipe.data.size, recipe.data.scale, recipe.data.ratio, recipe.seed)
        middles = CenterSquares(self.val, recipe.data.size)
        return (
            class_loader(squares, recipe.batch_size, workers, recipe.seed, rank, recipe.drop_last),
            class_loader(middles, recipe.batch_size, workers, None, rank),
        )

    def task(self, net: nn.Module, steps_per_epoch: int) -> ClassificationTask:
        """What a step does with the network."""
        globalize_layers(net, self._machine.rank)
        if self._machine.compile:
            net.compile()  # in place: weights keep their names
        return ClassificationTask(
            net,
            preprocessing=kind(self.recipe.model.name).preprocessing,
            smoothing=self.recipe.smoothing,
            movement=movement(self.recipe, net, steps_per_epoch),
        )

    def measure(self, task: ClassificationTask) -> ValidationResult:
        """The share of right answers, after which the task counts anew."""
        accuracy, loss = float(task.accuracy.compute()), float(task.val_loss.compute())
        task.accuracy.reset()
        return ValidationResult("val_accuracy", accuracy, loss, {"val_accuracy": accuracy}, {"accuracy": accuracy})

    def save(self, net: nn.Module, path: Path, epoch: int, result: ValidationResult) -> None:
        """Writes the classifier as it is now."""
        data = self.recipe.data
        card = ClassifierCard(
            model=self.recipe.model.name,
            classes=self.train.classes,
            options=self.recipe.model.options,
            recipe=self.recipe.to_dict(),
            scores={
                **result.metrics,
                "epoch": epoch,
                "protocol": {"data": data.name, "split": data.val, "size": data.size},
            },
            versions=versions(),
        )
        save_classifier(collapse(net) if self.recipe.grouping else net, card, path)
