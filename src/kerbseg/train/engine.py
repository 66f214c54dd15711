"""Lightning's trainer as every kind of training here uses it: folders, devices, callbacks, and a run to its end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import disable_possible_user_warnings
from torch import nn
from torch.utils.data import DataLoader

from kerbseg.core.errors import RecipeError, UserError
from kerbseg.core.files import replacing
from kerbseg.train.callbacks import AveragedWeights, Bar, DecayEnds, Plateau, Results, StepSeed
from kerbseg.train.grouping import GradualGrouping
from kerbseg.train.norm import FrozenNorm
from kerbseg.train.recipe import Classification, Recipe

Device = Literal["auto", "cpu", "cuda"]
AnyRecipe = Recipe | Classification

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def prepare(run: Path, recipe: AnyRecipe, resume: bool) -> None:
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


def accelerator(device: Device, recipe: AnyRecipe) -> Literal["gpu", "cpu"]:
    """Lightning's word for the device. Raises UserError where it is not there or lacks the recipe's precision."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' is not there; use --device cpu, or install a torch build for your GPU")
    if device != "cpu" and torch.cuda.is_available():
        return "gpu"
    if recipe.precision == "float16":
        raise UserError("a CPU does not train in float16; add precision=bfloat16 or precision=float32")
    return "cpu"


def run_to_end(
    task: L.LightningModule,
    recipe: AnyRecipe,
    run: Path,
    loaders: tuple[DataLoader[Any], DataLoader[Any]],
    callbacks: Sequence[Callback],
    *,
    accelerator: Literal["gpu", "cpu"],
    devices: int,
    resume: bool,
) -> None:
    """Trains for the recipe's epochs. Raises KeyboardInterrupt after Ctrl-C."""
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
            callbacks=list(callbacks),
        )
        checkpoint = str(run / "last.ckpt") if resume else None
        try:
            trainer.fit(task, *loaders, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # how lightning ends after Ctrl-C; a caller expects Python's own sign of it
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise


def callbacks_for(recipe: AnyRecipe, net: nn.Module, grouping: GradualGrouping, results: Results) -> list[Callback]:
    """Callbacks that a recipe asks for, and the results after all that decides what they are or what a run knows."""
    wanted: list[Callback] = [StepSeed(recipe.seed)]
    if recipe.grouping is not None:
        wanted.append(grouping)
    if any(part.freeze_norm for part in recipe.optim.parts):
        wanted.append(FrozenNorm(net, recipe.optim.parts))
    if recipe.optim.weight_decay_until is not None:
        wanted.append(DecayEnds(recipe.optim.weight_decay_until))
    if recipe.schedule.name == "plateau":
        settings = recipe.schedule
        wanted.append(Plateau(results, settings.factor, settings.patience, settings.watch))
    wanted.append(results)
    if recipe.ema is not None:
        wanted.append(AveragedWeights(recipe.ema))
    return [*wanted, Bar(results)]


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
