"""What happens around the steps: seeds, averaged weights, scores, bundles, checkpoints, progress."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kerbseg.core.files import atomic_write


@dataclass(frozen=True)
class ValidationResult:
    """What a validation found."""

    name: str  # of the figure that decides, such as val_miou
    value: float  # the larger the better
    row: Mapping[str, float | None]  # for metrics.csv
    scores: Mapping[str, Any]  # for the card of what is saved


class StepSeed(Callback):
    """Seeds each step by its number, so that augmentation and dropout of a resumed run are those of an unbroken one.

    All processes draw the same numbers, and each takes those of its own pictures.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """Before anything of the step is drawn."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.global_step) * 64)


class AveragedWeights(WeightAveraging):
    """Exponential average of the weights, used for validation and as the result; the decay grows to its value."""

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            seen = float(updates)  # young averages forget their first, random weights quickly
            return averaged.lerp(current.to(averaged.dtype), 1 - min(decay, (1 + seen) / (10 + seen)))

        def average_any(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            return average(averaged, current, updates) if averaged.is_floating_point() else current

        super().__init__(use_buffers=True, avg_fn=average_any)


class RunRecorder(Callback):
    """After each validation: scores, the best bundle so far, `metrics.csv`; after each epoch: `last.ckpt`.

    Stands before `AveragedWeights` in the list, so that it sees the averaged weights that were validated.
    """

    def __init__(
        self,
        run: Path,
        measure: Callable[[], ValidationResult],  # also forgets what it has measured
        save: Callable[[Path, int, ValidationResult], None],
        eligible: Callable[[], bool] = lambda: True,  # whether the network is by now what shall come out
    ) -> None:
        self._run, self._measure, self._save, self._eligible = run, measure, save, eligible
        self._rows: list[dict[str, Any]] = []
        self._row: dict[str, Any] = {}
        self._seconds, self._started = 0.0, 0.0
        self.best = -math.inf
        self.latest: ValidationResult | None = None

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Starts the clock, which a resumed run goes on with."""
        self._started = time.monotonic() - self._seconds

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Scores the whole set, and keeps the bundle if it is the best."""
        found = self._measure()
        if trainer.sanity_checking:
            return
        self.latest = found
        task.log(found.name, found.value, rank_zero_only=True)
        self._row = dict(found.row)
        if not self._eligible():
            return
        if trainer.is_global_zero and found.value > self.best:
            self._save(self._run / "best.safetensors", trainer.current_epoch + 1, found)
        self.best = max(self.best, found.value)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One row of `metrics.csv`, and the checkpoint from which the run can go on."""
        self._seconds = time.monotonic() - self._started
        figures = {
            key: float(trainer.callback_metrics[key])
            for key in ("alpha", "loss", "val_loss")
            if key in trainer.callback_metrics
        }
        if not self._row:
            figures.pop("val_loss", None)  # that of an earlier epoch
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": lr,
            "seconds": round(self._seconds, 1),
        }
        self._rows.append(row | figures | self._row)
        self._row = {}
        checkpoint = self._run / "last.ckpt"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(checkpoint, weights_only=False)  # writes nothing here, waits for the one that does
            return
        self._write_csv()
        with atomic_write(checkpoint) as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)

    def on_fit_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The weights at the end (averaged ones, where they are: they are put in place when training ends)."""
        if trainer.is_global_zero and self.latest is not None and self._eligible():
            self._save(self._run / "last.safetensors", trainer.current_epoch, self.latest)

    def _write_csv(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        with atomic_write(self._run / "metrics.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"rows": self._rows, "best": self.best, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._rows, self.best, self._seconds = state_dict["rows"], state_dict["best"], state_dict["seconds"]


class LastValidation(Callback):
    """Validates after the last epoch, whatever the interval: it may well be the best."""

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """A function of the epoch, so a resumed run needs no memory of it."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class KillPeersOnFailure(Callback):
    """Ends the processes that lightning has started where this one fails.

    They would wait for it for ever; and lightning's own watch, which finds them ended, would kill this one before it
    can tell why.
    """

    def on_exception(self, trainer: L.Trainer, task: L.LightningModule, exception: BaseException) -> None:
        """Takes them out of the sight of the watch first."""
        watched = getattr(trainer.strategy.launcher, "procs", [])
        started = list(watched)
        watched.clear()
        for process in started:
            process.kill()
            process.wait()


class WeightDecayCutoff(Callback):
    """Takes weight decay away after some epochs."""

    def __init__(self, until: float) -> None:
        self._until = until

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """A function of the epoch, so a resumed run needs no memory of it."""
        if trainer.current_epoch >= self._until:
            for group in trainer.optimizers[0].param_groups:
                group["weight_decay"] = 0.0


class Plateau(Callback):
    """Multiplies the learning rate by `factor` when nothing has become better for `patience` validations.

    It watches the validation's figure, or the loss in training, which a paper may mean (ERFNet, sec. IV-A).
    """

    def __init__(self, results: RunRecorder, factor: float, patience: int, watch: Literal["score", "loss"]) -> None:
        self._results, self._factor, self._patience, self._watch = results, factor, patience, watch
        self._rule: ReduceLROnPlateau | None = None
        self._state: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Watches the one optimiser."""
        mode: Literal["max", "min"] = "max" if self._watch == "score" else "min"
        self._rule = ReduceLROnPlateau(trainer.optimizers[0], mode, self._factor, self._patience, eps=0)
        if self._state:
            self._rule.load_state_dict(self._state)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One step of the rule, if it watches the score."""
        if self._watch == "score" and self._results.latest is not None and not trainer.sanity_checking:
            self._step(trainer, self._results.latest.value)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One step of the rule, if it watches the loss; an epoch is known before its checkpoint is written."""
        if self._watch == "loss":
            self._step(trainer, float(trainer.callback_metrics["loss"]))

    def _step(self, trainer: L.Trainer, value: float) -> None:
        """The schedule's base rate moves, since the schedule sets the rate at each step."""
        assert self._rule is not None
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        before = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self._rule.step(value)
        after = [group["lr"] for group in trainer.optimizers[0].param_groups]
        scheduler.base_lrs = [
            base * new / old for base, new, old in zip(scheduler.base_lrs, after, before, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return (
            {key: value for key, value in self._rule.state_dict().items() if key != "optimizer"} if self._rule else {}
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse; taken when training starts."""
        self._state = state_dict


class RunProgress(Callback):
    """A bar over the whole run with the time left; where there is no terminal, a line an epoch."""

    def __init__(self, results: RunRecorder) -> None:
        self._results = results
        self._started, self._first = 0.0, 0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[found]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._live = self._bar.console.is_terminal

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Shows the bar at the step where this run begins or goes on."""
        self._started, self._first = time.monotonic(), trainer.current_epoch
        total = int(trainer.estimated_stepping_batches)
        self._id = self._bar.add_task("", total=total, completed=trainer.global_step, epoch="1", loss="-", found="")
        if self._live and trainer.is_global_zero:
            self._bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Moves the bar."""
        if self._live and index % 5 == 0:
            self._bar.update(
                self._id,
                completed=trainer.global_step,
                epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
                loss=f"{float(outputs['loss']):.3f}",
                found=self._found(),
            )

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One plain line."""
        if self._live or not trainer.is_global_zero:
            return
        done, total = trainer.current_epoch + 1, trainer.max_epochs or 1
        elapsed = time.monotonic() - self._started
        left = elapsed / (done - self._first) * (total - done)
        loss = float(trainer.callback_metrics.get("loss", math.nan))
        print(
            f"epoch {done}/{total}  loss {loss:.4f}  {self._found()}  {elapsed:.0f} s, about {left:.0f} s left",
            flush=True,
        )

    def teardown(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Leaves the terminal as it was."""
        self._bar.stop()

    def _found(self) -> str:
        latest = self._results.latest
        return "" if latest is None else f"{_SPOKEN.get(latest.name, latest.name)} {latest.value:.4f}"


_SPOKEN = {"val_miou": "val mIoU", "val_accuracy": "val accuracy"}
