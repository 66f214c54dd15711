"""What a run leaves behind: its figures, its best and last weights, and the checkpoint from which it goes on."""

from __future__ import annotations

import csv
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from jaxtyping import Int, UInt8
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from kerbseg.core.errors import KerbsegWarning
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet


class Shown(NamedTuple):
    """A picture of a validation, its truth, and what the network made of it."""

    name: str
    image: UInt8[Tensor, "3 h w"]
    mask: UInt8[Tensor, "h w"]
    ids: Int[Tensor, "h w"]


@dataclass(frozen=True)
class ValidationResult:
    """The figures of one validation."""

    name: str  # of the figure that decides, such as val_miou
    value: float  # the larger the better
    loss: float  # plain cross entropy; no number where the logits are none
    row: Mapping[str, float | None]  # for metrics.csv
    metrics: Mapping[str, Any]  # for the card of what is saved
    labels: LabelSet | None = None  # of a segmentation; likewise the next two
    confusion: Int[Tensor, "k k"] | None = None  # rows the truth
    pictures: Sequence[Shown] = ()


class RunRecorder(Callback):
    """After each validation: its figures, the best bundle so far, `metrics.csv`; after each epoch: `last.ckpt`.

    Stands before `AveragedWeights` in the list, so that it sees the averaged weights that were validated.
    """

    def __init__(
        self,
        run: Path,
        measure: Callable[[], ValidationResult],  # also forgets what it has measured
        save: Callable[[Path, int, ValidationResult], None],
        eligible: Callable[[], bool] = lambda: True,  # whether the network is by now what shall come out
        recipe: Mapping[str, Any] | None = None,  # resolved; a checkpoint knows whose it is
    ) -> None:
        self._run, self._measure, self._save, self._recipe = run, measure, save, recipe
        self.eligible = eligible
        self._rows: list[dict[str, Any]] = []
        self._row: dict[str, Any] = {}
        self._seconds, self._started = 0.0, 0.0
        self._moments = 0  # weights of which the optimizer remembers something
        self.best = -math.inf
        self.latest: ValidationResult | None = None
        self.latest_epoch = 0  # after which it was measured, counted from 1

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Starts the clock, which a resumed run goes on with."""
        self._started = time.monotonic() - self._seconds

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Measures the whole set, and keeps the bundle if it is the best."""
        result = self._measure()
        if trainer.sanity_checking:
            return
        self.latest, self.latest_epoch = result, trainer.current_epoch + 1
        task.log(result.name, result.value, rank_zero_only=True)
        self._row = dict(result.row)
        if not math.isfinite(result.loss) and trainer.is_global_zero:
            what = f"epoch {trainer.current_epoch + 1}: the validation loss is {result.loss}; its weights are not kept"
            warnings.warn(KerbsegWarning(what), stacklevel=2)
        if not self.eligible() or not math.isfinite(result.loss):
            return
        if trainer.is_global_zero and result.value > self.best:
            self._save(self._run / "best.safetensors", trainer.current_epoch + 1, result)
        self.best = max(self.best, result.value)

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
        self._moments = len(trainer.optimizers[0].state)
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": lr,
            "seconds": round(self._seconds, 1),
        }
        # what is no number has no place in a table
        self._rows.append({key: value for key, value in (row | figures | self._row).items() if _is_figure(value)})
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
        if trainer.is_global_zero and self.latest is not None and self.eligible():
            self._save(self._run / "last.safetensors", trainer.current_epoch, self.latest)

    def _write_csv(self) -> None:
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        with atomic_write(self._run / "metrics.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        state = {
            "rows": self._rows,
            "best": self.best,
            "seconds": self._seconds,
            "threads": torch.get_num_threads(),
            "moments": self._moments,
        }
        return state if self._recipe is None else state | {"recipe": self._recipe}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._rows, self.best, self._seconds = state_dict["rows"], state_dict["best"], state_dict["seconds"]
        best = self._run / "best.safetensors"
        if self.best > -math.inf and not best.is_file():
            warnings.warn(KerbsegWarning(f"{best} is gone; the best from here on takes its place"), stacklevel=2)
            self.best = -math.inf


def _is_figure(value: float | None) -> bool:
    return value is None or math.isfinite(value)
