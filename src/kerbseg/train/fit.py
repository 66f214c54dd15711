"""`fit(recipe)`: the parts of a recipe, put together and run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import disable_possible_user_warnings
from torch import nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, load, save, versions
from kerbseg.compress.grouping import collapse, fade, make_dense
from kerbseg.core.errors import RecipeError, UserError
from kerbseg.core.files import replacing
from kerbseg.data.loading import training_loader, validation_loader
from kerbseg.metrics import Scores
from kerbseg.train.callbacks import AveragedWeights, Bar, Plateau, Results, StepSeed
from kerbseg.train.grouping import GradualGrouping
from kerbseg.train.ingredients import alpha_of, augmentation, class_weights, criterion, start_from
from kerbseg.train.norm import FrozenNorm, follow
from kerbseg.train.optim import optimizer, parameter_groups, schedule, schedules
from kerbseg.train.recipe import Recipe
from kerbseg.train.split import Cache, Split, open_split
from kerbseg.train.task import SegmentationTask

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def fit(
    recipe: Recipe,
    run: str | Path,
    *,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    workers: int = 0,
    cache: Cache = "auto",
    callbacks: Sequence[Callback] = (),
) -> Bundle:
    """Trains as the recipe says and returns the best bundle by validation mIoU.

    Writes into `run`: recipe.yaml, metrics.csv, tensorboard/, last.ckpt (after each epoch), best.safetensors,
    last.safetensors. A run that was cut off goes on with `resume` and ends with the same weights.
    Raises UserError for data, recipes or folders that cannot be used; KeyboardInterrupt after Ctrl-C.
    """
    run = Path(run)
    accelerator = _accelerator(device, recipe)
    facts = models.card(recipe.model.name)
    with torch.device("meta"):  # a wrong option is told before any data is read
        models.create_model(recipe.model.name, **recipe.model.options)
    train = open_split(recipe.data, recipe.data.train, data_root, cache)
    val = open_split(recipe.data, (recipe.data.val,), data_root, cache)
    _prepare(run, recipe, resume)
    torch.manual_seed(recipe.seed)
    net = models.create_model(recipe.model.name, len(train.labels), **recipe.model.options)
    groups = {} if recipe.grouping is None else make_dense(net, recipe.grouping.select)
    if initial is not None:
        start_from(net, load(initial).model, recipe.model.init, str(initial))
    fade(net, groups)
    if recipe.norm_momentum is not None:
        follow(net, recipe.norm_momentum)
    net = models.channels_last(net)
    loader = training_loader(train.batches, recipe.batch_size, recipe.seed, workers)
    task = SegmentationTask(
        net,
        classes=len(train.labels),
        stride=facts.stride,
        preprocessing=facts.preprocessing,
        augment=augmentation(recipe.augment),
        criterion=criterion(recipe.loss, class_weights(recipe.loss, train)),
        optimizer=lambda module: optimizer(parameter_groups(module, recipe.optim.parts), recipe.optim),
        schedules=schedules(schedule(recipe.schedule, recipe.epochs, len(loader)), recipe.optim, len(loader)),
    )
    grouping = GradualGrouping(net, alpha_of(recipe, len(loader)))
    results = Results(run, train.labels, BundleWriter(net, recipe, train, val), counts=grouping.settled)
    with _quiet():
        trainer = L.Trainer(
            max_epochs=recipe.epochs,
            accelerator=accelerator,
            devices=devices,
            precision=_PRECISION[recipe.precision],
            gradient_clip_val=recipe.optim.clip,
            check_val_every_n_epoch=recipe.validate_every,
            num_sanity_val_steps=0,
            enable_checkpointing=False,  # ours is written to a temporary name and renamed
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(run, name="", version="tensorboard"),
            log_every_n_steps=10,
            callbacks=[StepSeed(recipe.seed), *_optional(recipe, net, grouping, results), Bar(results), *callbacks],
        )
        try:
            trainer.fit(
                task,
                loader,
                validation_loader(val.batches, recipe.batch_size, workers),
                ckpt_path=str(run / "last.ckpt") if resume else None,
                weights_only=True,
            )
        except SystemExit:  # how lightning ends after Ctrl-C; a caller expects Python's own sign of it
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
    return load(run / "best.safetensors")


@dataclass(frozen=True)
class BundleWriter:
    """Writes the network as it is now, with the card that says what it is."""

    net: nn.Module
    recipe: Recipe
    train: Split
    val: Split

    def __call__(self, path: Path, epoch: int, found: Scores) -> None:
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
            scores={
                "miou": found.miou,
                "class_iou": dict(found.class_iou),
                "pixel_accuracy": found.pixel_accuracy,
                "epoch": epoch,
                "protocol": protocol,
            },
            source="trained by kerbseg",
            versions=versions(),
        )
        save(Bundle(collapse(self.net) if self.recipe.grouping else self.net, card), path)


def _prepare(run: Path, recipe: Recipe, resume: bool) -> None:
    """Makes the run's folder, or checks that the one to resume is of this recipe."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    written, checkpoint = run / "recipe.yaml", run / "last.ckpt"
    if resume and not checkpoint.is_file():
        raise UserError(f"nothing to resume: {checkpoint} does not exist; start without --resume")
    if resume and written.read_text() != text:
        raise RecipeError(f"{written} is not the recipe asked for; resume with the same, or choose another --out")
    if checkpoint.is_file() and not resume:
        raise UserError(f"{run} holds a run already; go on with --resume, or choose another --out")
    with replacing(written) as temporary:
        temporary.write_text(text)


def _optional(recipe: Recipe, net: nn.Module, grouping: GradualGrouping, results: Results) -> list[Callback]:
    """Callbacks that a recipe asks for, and the results after what decides whether they count."""
    wanted: list[Callback] = []
    if recipe.grouping is not None:
        wanted.append(grouping)
    if any(part.freeze_norm for part in recipe.optim.parts):
        wanted.append(FrozenNorm(net, recipe.optim.parts))
    wanted.append(results)
    if recipe.schedule.name == "plateau":
        wanted.append(Plateau(results, recipe.schedule.factor, recipe.schedule.patience))
    if recipe.ema is not None:
        wanted.append(AveragedWeights(recipe.ema))
    return wanted


def _accelerator(device: Literal["auto", "cpu", "cuda"], recipe: Recipe) -> Literal["gpu", "cpu"]:
    """Lightning's word for the device. Raises UserError where it is not there or lacks the recipe's precision."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' is not there; use --device cpu, or install a torch build for your GPU")
    if device != "cpu" and torch.cuda.is_available():
        return "gpu"
    if recipe.precision == "float16":
        raise UserError("a CPU does not train in float16; add precision=bfloat16 or precision=float32")
    return "cpu"


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's remarks on devices and workers stay out of the user's sight; its warnings do not."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            disable_possible_user_warnings()
            # how lightning itself uses torch is not for the user to mend
            warnings.filterwarnings(action="ignore", category=FutureWarning, module=r"lightning\.")
            yield
    finally:
        logger.setLevel(level)
