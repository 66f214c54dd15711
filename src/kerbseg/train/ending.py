"""What ends a training before its last epoch: nothing becomes better, or the time is over; and its last validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted
from kerbseg.train.recipe import AnyRecipe
from kerbseg.train.recorder import RunRecorder

MOST_HOURS = 24 * 366.0


def is_planned(recipe: AnyRecipe, epoch: int) -> bool:
    """Whether the recipe has a validation after this epoch, counted from 1; a time limit may add another."""
    return epoch % recipe.validate_every == 0 or epoch == recipe.epochs


class LastValidation(Callback):
    """Validates after the last epoch, whatever the interval: it may well be the best."""

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """A function of the epoch, so a resumed run needs no memory of it."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class Patience(Callback):
    """Ends a training when so many validations in a row have brought no better figure.

    A validation that only a time limit has asked for does not count: a run ends where it would without a limit.
    """

    def __init__(
        self, recorder: RunRecorder, patience: int, planned: Callable[[int], bool], quiet: bool = False
    ) -> None:
        self._recorder, self._patience, self._planned, self._quiet = recorder, patience, planned, quiet
        self._best, self._best_epoch, self._waited = -math.inf, 0, 0

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Counts, as soon as the network is what shall come out."""
        latest, epoch = self._recorder.latest, trainer.current_epoch + 1
        if latest is None or not self._recorder.eligible() or not self._planned(epoch):
            return
        if math.isfinite(latest.loss) and latest.value > self._best:
            self._best, self._best_epoch, self._waited = latest.value, epoch, 0
        else:
            self._waited += 1

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The checkpoint of this epoch is written all the same."""
        if self._waited >= self._patience and trainer.current_epoch + 1 != trainer.max_epochs:
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Tells why."""
        if self._quiet or not trainer.is_global_zero:
            return
        if trainer.should_stop and self._waited >= self._patience:
            print(why_patience(self.state_dict(), trainer.current_epoch, trainer.max_epochs or 0), flush=True)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best": self._best, "best_epoch": self._best_epoch, "waited": self._waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]
        self._waited = state_dict["waited"]


def why_patience(state: Mapping[str, Any], epoch: int, epochs: int) -> str:
    """One line for a run that its patience has ended after `epoch` epochs."""
    best = (
        f"the best is {state['best']:.4f} after epoch {state['best_epoch']}" if state["best_epoch"] else "none counts"
    )
    return (
        f"ended early after epoch {epoch} of {epochs}: no better figure in"
        f" {counted(state['waited'], 'validation')} (patience); {best}"
    )


def ended_early(content: Mapping[str, Any], recipe: AnyRecipe) -> str | None:
    """Why the run of a checkpoint has ended before its last epoch, in one line; None where it goes on."""
    state = content["callbacks"].get("Patience")
    if state is None or recipe.patience is None or state["waited"] < recipe.patience:
        return None
    return why_patience(state, content["epoch"] + 1, recipe.epochs)


class TimeLimit(Callback):
    """Ends a training between two epochs, before one for which the time would not last; one is always trained.

    The hours are those of this start of the training: it is about the machine, and a resumed run has them anew.
    The weights at the end are validated, which the recipe may not have asked for in that epoch.
    """

    def __init__(self, hours: float, started: float, go_on: str, quiet: bool = False) -> None:
        self._hours, self._deadline, self._go_on, self._quiet = hours, started + 3600 * hours, go_on, quiet
        self._begun = self._validation_begun = 0.0
        self._training_s = self._validation_s = 0.0  # of the longest epoch
        self._over = False

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Starts a clock."""
        self._begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """After the last batch: whether another epoch fits in, of all processes alike."""
        if index + 1 < trainer.num_training_batches or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        now = time.monotonic()
        self._training_s = max(self._training_s, now - self._begun)
        ends = now + self._training_s + 2 * self._validation_s
        self._over = trainer.strategy.reduce_boolean_decision(ends > self._deadline, all=False)
        if self._over:
            trainer.check_val_every_n_epoch = 1

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Starts another clock."""
        self._validation_begun = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """And stops it."""
        self._validation_s = max(self._validation_s, time.monotonic() - self._validation_begun)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The checkpoint of this epoch is written all the same."""
        if trainer.should_stop:
            self._over = False  # it has ended by itself
        trainer.should_stop = trainer.should_stop or self._over

    def on_fit_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Tells why, and how the run goes on."""
        if self._over and trainer.is_global_zero and not self._quiet:
            print(
                f"stopped after epoch {trainer.current_epoch} of {trainer.max_epochs}: the time limit (--hours"
                f" {self._hours:g}) leaves no time for another epoch; go on with: {self._go_on}",
                flush=True,
            )


def check_hours(hours: float | None) -> None:
    """Raises KerbsegError for a time limit that is none."""
    if hours is not None and not 0 < hours <= MOST_HOURS:
        raise KerbsegError(f"hours={hours:g} is no time limit; give a number above 0 and at most {MOST_HOURS:g}")
