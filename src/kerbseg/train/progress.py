"""How far a run is, shown while it trains."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kerbseg.train.recorder import RunRecorder


class RunProgress(Callback):
    """A bar over the whole run with the time left; where there is no terminal, a line an epoch."""

    def __init__(self, recorder: RunRecorder) -> None:
        self._recorder = recorder
        self._started, self._first = 0.0, 0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[result]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._live = self._bar.console.is_terminal

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Shows the bar at the step where this run begins or goes on."""
        self._started, self._first = time.monotonic(), trainer.current_epoch
        total = int(trainer.estimated_stepping_batches)
        self._id = self._bar.add_task("", total=total, completed=trainer.global_step, epoch="1", loss="-", result="")
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
                result=self._latest(),
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
            f"epoch {done}/{total}  loss {loss:.4f}  {self._latest()}  {elapsed:.0f} s, about {left:.0f} s left",
            flush=True,
        )

    def teardown(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Leaves the terminal as it was."""
        self._bar.stop()

    def _latest(self) -> str:
        latest = self._recorder.latest
        return "" if latest is None else f"{_SPOKEN.get(latest.name, latest.name)} {latest.value:.4f}"


_SPOKEN = {"val_miou": "val mIoU", "val_accuracy": "val accuracy"}
