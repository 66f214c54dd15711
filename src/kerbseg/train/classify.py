"""`fit_classifier(recipe)`: the second kind of training, of bodies that segmentation networks start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

import kerbseg.models as models
from kerbseg.bundle import versions
from kerbseg.compress.grouping import collapse, fade, make_dense
from kerbseg.core.normalize import Normalize
from kerbseg.core.types import Preprocessing
from kerbseg.data.imagefolder import CentreSquares, ClassBatch, RandomSquares, class_loader, open_folders
from kerbseg.models.classifiers import create_classifier, kind
from kerbseg.train.builders import alpha_of
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
from kerbseg.train.initial import ClassifierCard, load_initial_weights, save_classifier
from kerbseg.train.optim import optimizer, parameter_groups, schedule, schedules
from kerbseg.train.recipe import Classification
from kerbseg.train.shared import globalize_layers


class ClassificationTask(L.LightningModule):
    """Trains a classifier on squares of uint8; validation counts how many of them it names rightly."""

    def __init__(
        self,
        net: nn.Module,
        *,
        preprocessing: Preprocessing,
        smoothing: float,
        optimizer: Callable[[nn.Module], Optimizer],
        schedules: Sequence[Callable[[int], float]],
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = Normalize(preprocessing)
        self.accuracy = MeanMetric()
        self._smoothing, self._optimizer, self._schedules = smoothing, optimizer, list(schedules)

    def training_step(self, batch: ClassBatch, index: int) -> Float[Tensor, ""]:
        """The loss of one batch, whose squares the loader has drawn already."""
        logits = self.logits(batch["image"])
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=self._smoothing)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(logits), sync_dist=True)
        return loss

    def validation_step(self, batch: ClassBatch, index: int) -> None:
        """Adds one batch to the share of right answers, and its cross entropy to the validation loss."""
        logits = self.logits(batch["image"])
        loss = F.cross_entropy(logits, batch["label"])
        self.log("val_loss", loss, on_epoch=True, batch_size=len(logits), sync_dist=True)
        self.accuracy.update((logits.argmax(1) == batch["label"]).float())

    def logits(self, image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Scores of the classes."""
        normal = self.normalize(image.float() / 255).contiguous(memory_format=torch.channels_last)
        return self.net(normal).float()

    def configure_optimizers(self) -> dict[str, object]:
        """As the segmentation task's."""
        optimizer = self._optimizer(self.net)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self._schedules), "interval": "step"},
        }


def fit_classifier(
    recipe: Classification,
    run: str | Path,
    *,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Device = "auto",
    devices: int = 1,
    workers: int = 0,
    compile: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Trains as the recipe says; returns the file of the best weights by validation accuracy.

    It is no bundle, since it segments nothing: `--init` of a segmentation recipe takes its body. Writes the same files
    into `run`, resumes and raises as `fit` does.
    """
    run = Path(run)
    process = this_process(devices, recipe)
    place = training_device(device, recipe, process)
    if compile:
        check_compiling(place, process)
    data = recipe.data
    with torch.device("meta"):  # a wrong option is told before any data is read
        create_classifier(recipe.model.name, 2, **recipe.model.options)
    train, val = open_folders(data.name, data.train, data.val, data_root, data.limit)
    squares = RandomSquares(train, data.size, data.scale, data.ratio, recipe.seed)
    loader = class_loader(squares, recipe.batch_size, workers, recipe.seed, process)
    prepare(run, recipe, resume, process)
    torch.manual_seed(recipe.seed)
    net = create_classifier(recipe.model.name, len(train.classes), **recipe.model.options)
    groups = {} if recipe.grouping is None else make_dense(net, recipe.grouping.select)
    if initial is not None:
        load_initial_weights(net, initial)
    fade(net, groups)
    net = models.channels_last(net)
    globalize_layers(net, process)
    if compile:
        net.compile()  # in place: weights keep their names
    task = ClassificationTask(
        net,
        preprocessing=kind(recipe.model.name).preprocessing,
        smoothing=recipe.smoothing,
        optimizer=lambda module: optimizer(parameter_groups(module, recipe.optim.groups), recipe.optim),
        schedules=schedules(schedule(recipe.schedule, recipe.epochs, len(loader)), recipe.optim, len(loader)),
    )
    grouping = GradualGrouping(net, alpha_of(recipe, len(loader)))
    results = RunRecorder(
        run, lambda: outcome(task), ClassifierWriter(net, recipe, train.classes), grouping.fully_grouped
    )
    run_to_end(
        task,
        recipe,
        run,
        (loader, class_loader(CentreSquares(val, data.size), recipe.batch_size, workers, rank=process)),
        [*callbacks_for(recipe, net, grouping, results), *callbacks],
        device=place,
        process=process,
        resume=resume,
    )
    return run / "best.safetensors"


def outcome(task: ClassificationTask) -> ValidationResult:
    """The share of right answers, after which the task counts anew."""
    accuracy = float(task.accuracy.compute())
    task.accuracy.reset()
    return ValidationResult("val_accuracy", accuracy, {"val_accuracy": accuracy}, {"accuracy": accuracy})


@dataclass(frozen=True)
class ClassifierWriter:
    """Writes the classifier as it is now."""

    net: nn.Module
    recipe: Classification
    classes: tuple[str, ...]

    def __call__(self, path: Path, epoch: int, found: ValidationResult) -> None:
        protocol = {"data": self.recipe.data.name, "split": self.recipe.data.val, "size": self.recipe.data.size}
        card = ClassifierCard(
            model=self.recipe.model.name,
            classes=self.classes,
            options=self.recipe.model.options,
            recipe=self.recipe.to_dict(),
            scores={**found.scores, "epoch": epoch, "protocol": protocol},
            versions=versions(),
        )
        save_classifier(collapse(self.net) if self.recipe.grouping else self.net, card, path)
