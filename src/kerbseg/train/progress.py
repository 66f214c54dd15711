"""How far a run is, shown while it trains."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from kerbseg.train.recorder import RunRecorder

LOSS_EVERY_S = 0.25  # a loss is on the device, which must be waited for


class RunProgress(Callback):
    """A bar over the whole run with the time left, moved by every step; where there is no terminal, a line an epoch."""

    def __init__(self, recorder: RunRecorder, console: Console | None = None) -> None:
        self._recorder = recorder
        self._started, self._first_step, self._steps, self._loss_read = 0.0, 0, 0, -math.inf
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),  # what is left of 80 columns
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[result]}{task.fields[left]} left"),
            console=console,
            expand=True,
        )
        self._live = self.bar.console.is_terminal

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Shows the bar at the step where this run begins or goes on."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        self._steps = int(trainer.estimated_stepping_batches)
        self._id = self.bar.add_task(
            "",
            total=self._steps,
            completed=trainer.global_step,
            epoch=_epoch(trainer),
            loss="-",
            result="",
            left="?",
        )
        if self._live and trainer.is_global_zero:
            self.bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Moves the bar."""
        if not self._live:
            return
        now = time.monotonic()
        if now - self._loss_read > LOSS_EVERY_S:
            self.bar.update(self._id, loss=f"{float(outputs['loss']):.3f}")
            self._loss_read = now
        self.bar.update(
            self._id,
            completed=trainer.global_step,
            epoch=_epoch(trainer),
            result=self._latest(),
            left=duration(self._left(trainer)),
        )

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """One plain line; a validation's figure only where there was one."""
        if self._live:
            self.bar.update(self._id, result=self._latest())
        if self._live or not trainer.is_global_zero:
            return
        loss = float(trainer.callback_metrics.get("loss", math.nan))
        parts = [f"epoch {_epoch(trainer)}", f"loss {loss:.4f}"]
        if self._recorder.latest_epoch == trainer.current_epoch + 1:
            parts.append(self._latest())
        spent, left = duration(time.monotonic() - self._started), duration(self._left(trainer))
        print("  ".join([*parts, f"{spent}, about {left} left"]), flush=True)

    def teardown(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Leaves the terminal as it was."""
        if self._live:
            self.bar.stop()

    def _left(self, trainer: L.Trainer) -> float:
        """Seconds, as the steps of this start have taken, validations and all; a resumed run has a new clock."""
        per_step = (time.monotonic() - self._started) / max(1, trainer.global_step - self._first_step)
        return per_step * max(0, self._steps - trainer.global_step)

    def _latest(self) -> str:
        latest, epoch = self._recorder.latest, self._recorder.latest_epoch
        if latest is None:
            return ""
        words = f"{_SPOKEN.get(latest.name, latest.name)} {latest.value:.4f}"
        return f"{words} (epoch {epoch})  " if self._live else words


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _epoch(trainer: L.Trainer) -> str:
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}"


_SPOKEN = {"val_miou": "val mIoU", "val_accuracy": "val accuracy"}
