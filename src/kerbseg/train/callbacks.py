"""What happens around the steps: seeds, averaged weights, scores, bundles, checkpoints, progress."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kerbseg.core.files import replacing
from kerbseg.core.labels import LabelSet
from kerbseg.metrics import Scores, scores
from kerbseg.train.task import SegmentationTask


class StepSeed(Callback):
    """Seeds each step by its number, so that augmentation and dropout of a resumed run are those of an unbroken one."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """Before anything of the step is drawn."""
        torch.manual_seed((self._seed * 1_000_003 + trainer.global_step) * 64 + trainer.global_rank)


class AveragedWeights(WeightAveraging):
    """Exponential average of the weights, used for validation and as the result; the decay grows to its value."""

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            seen = float(updates)  # young averages forget their first, random weights quickly
            return averaged.lerp(current.to(averaged.dtype), 1 - min(decay, (1 + seen) / (10 + seen)))

        def average_any(averaged: Tensor, current: Tensor, updates: Tensor) -> Tensor:
            return average(averaged, current, updates) if averaged.is_floating_point() else current

        super().__init__(use_buffers=True, avg_fn=average_any)


class Results(Callback):
    """After each validation: scores, the best bundle so far, `metrics.csv`; after each epoch: `last.ckpt`.

    Stands before `AveragedWeights` in the list, so that it sees the averaged weights that were validated.
    """

    def __init__(
        self,
        run: Path,
        labels: LabelSet,
        save_bundle: Callable[[Path, int, Scores], None],
        counts: Callable[[], bool] = lambda: True,  # whether the network is by now what shall come out
    ) -> None:
        self._run, self._labels, self._save_bundle, self._counts = run, labels, save_bundle, counts
        self._rows: list[dict[str, Any]] = []
        self._row: dict[str, Any] = {}
        self._seconds, self._started = 0.0, 0.0
        self.best = -math.inf
        self.latest: Scores | None = None

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Starts the clock, which a resumed run goes on with."""
        self._started = time.monotonic() - self._seconds

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Scores the whole set, and keeps the bundle if it is the best."""
        assert isinstance(task, SegmentationTask)
        confusion = task.confusion.compute()
        task.confusion.reset()
        if trainer.sanity_checking:
            return
        self.latest = found = scores(confusion, self._labels)
        task.log("val_miou", found.miou, rank_zero_only=True)
        self._row = {
            "val_miou": found.miou,
            "val_pixel_accuracy": found.pixel_accuracy,
            **{f"val_iou/{name}": value for name, value in found.class_iou.items()},
        }
        if not self._counts():
            return
        if trainer.is_global_zero and found.miou > self.best:
            self._save_bundle(self._run / "best.safetensors", trainer.current_epoch + 1, found)
        self.best = max(self.best, found.miou)

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
        if trainer.is_global_zero:
            self._write_csv()
        with replacing(self._run / "last.ckpt") as temporary:
            trainer.save_checkpoint(temporary, weights_only=False)

    def on_fit_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The weights at the end (averaged ones, where they are: they are put in place when training ends)."""
        if trainer.is_global_zero and self.latest is not None and self._counts():
            self._save_bundle(self._run / "last.safetensors", trainer.current_epoch, self.latest)

    def _write_csv(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        with replacing(self._run / "metrics.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"rows": self._rows, "best": self.best, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._rows, self.best, self._seconds = state_dict["rows"], state_dict["best"], state_dict["seconds"]


class Plateau(Callback):
    """Multiplies the learning rate by `factor` when the validation mIoU has not grown for `patience` validations."""

    def __init__(self, results: Results, factor: float, patience: int) -> None:
        self._results, self._factor, self._patience = results, factor, patience
        self._rule: ReduceLROnPlateau | None = None
        self._state: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Watches the one optimiser."""
        self._rule = ReduceLROnPlateau(trainer.optimizers[0], "max", self._factor, self._patience)
        if self._state:
            self._rule.load_state_dict(self._state)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One step of the rule; the schedule's base rate moves, since the schedule sets the rate at each step."""
        if self._rule is None or self._results.latest is None or trainer.sanity_checking:
            return
        scheduler = trainer.lr_scheduler_configs[0].scheduler
        before = [group["lr"] for group in trainer.optimizers[0].param_groups]
        self._rule.step(self._results.latest.miou)
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


class Bar(Callback):
    """A bar over the whole run with the time left; where there is no terminal, a line an epoch."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._started, self._first = 0.0, 0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  val mIoU {task.fields[miou]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._live = self._bar.console.is_terminal

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Shows the bar at the step where this run begins or goes on."""
        self._started, self._first = time.monotonic(), trainer.current_epoch
        total = int(trainer.estimated_stepping_batches)
        self._id = self._bar.add_task("", total=total, completed=trainer.global_step, epoch="1", loss="-", miou="-")
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
                miou=self._miou(),
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
            f"epoch {done}/{total}  loss {loss:.4f}  val mIoU {self._miou()}  {elapsed:.0f} s, about {left:.0f} s left",
            flush=True,
        )

    def teardown(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Leaves the terminal as it was."""
        self._bar.stop()

    def _miou(self) -> str:
        return "-" if self._results.latest is None else f"{self._results.latest.miou:.4f}"
