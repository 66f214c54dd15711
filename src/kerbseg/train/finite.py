"""A training whose loss or weights are no numbers any more, or that learns nothing, ends before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from kerbseg.core.distributed import Rank
from kerbseg.core.errors import KerbsegError

EVERY = 20  # steps between two looks at a GPU's loss: each look waits for it


class StopWhereNotFinite(Callback):
    """Raises KerbsegError, with step and rate, where the loss is NaN or infinite, or weights or statistics are.

    In float16 a step whose gradient overflows is skipped, so `grace` steps in a row may have no finite loss. Without
    that scaling the weights are lost at the first one. Stands before the recorder, so that what it keeps is good.
    An epoch whose every loss is exactly 0 had no pixel with a class: it is refused too.
    """

    def __init__(self, grace: int, rank: Rank) -> None:
        self._grace, self._rank = grace, rank
        self._in_a_row: Tensor | None = None  # on the device, so that counting waits for nothing
        self._loss: Tensor | None = None
        self._largest: Tensor | None = None  # loss of this epoch, NaN if any was
        self._lr = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """The rate of this step: when it has ended, that of the next one is set already."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, task: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Counts; all processes count alike, since each sees the mean of all losses."""
        self._loss = self._rank.mean(outputs["loss"].detach())
        self._largest = self._loss if self._largest is None else torch.maximum(self._largest, self._loss)
        before = torch.zeros((), dtype=torch.long, device=self._loss.device)
        before = before if self._in_a_row is None else self._in_a_row
        self._in_a_row = torch.where(self._loss.isfinite(), 0, before + 1)
        if self._loss.device.type == "cpu" or index % EVERY == 0:
            self._check_loss(trainer)

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Before anything is measured."""
        self._check_loss(trainer)
        self._check_learned(trainer)

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Of the weights that were validated, which are the averaged ones where the recipe wants these."""
        self._check_weights(trainer, task)

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Before the checkpoint is written."""
        self._check_loss(trainer)
        self._check_weights(trainer, task)
        self._check_learned(trainer)
        self._largest = None

    def _check_loss(self, trainer: L.Trainer) -> None:
        count = 0 if self._in_a_row is None else int(self._in_a_row)
        if count > self._grace:
            assert self._loss is not None
            steps = f" (and in {count - 1} steps after it)" if count > 1 else ""
            raise self._stop(
                trainer, f"the loss is {float(self._loss)} at step {trainer.global_step - count + 1}{steps}"
            )

    def _check_learned(self, trainer: L.Trainer) -> None:
        if self._largest is not None and float(self._largest) == 0:
            raise KerbsegError(
                f"training stopped: every loss of epoch {trainer.current_epoch + 1} is 0, as no pixel has a class after"
                " augmentation; lower augment.shift, translate, rotate or scale, or look at the masks"
            )

    def _check_weights(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        for name, value in _states(trainer, task):
            if not torch.isfinite(value).all():
                where = f"{name} holds NaN or infinite values after step {trainer.global_step}"
                raise self._stop(trainer, f"{where}, though the loss is a number")

    def _stop(self, trainer: L.Trainer, what: str) -> KerbsegError:
        return KerbsegError(
            f"training stopped: {what}, epoch {trainer.current_epoch + 1}, learning rate {self._lr:.3g};"
            " lower optim.lr, or set optim.clip=1; what was saved before is kept"
        )


def _states(trainer: L.Trainer, task: L.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """All that a checkpoint holds of a network and its optimizer, with names for a person."""
    yield from task.state_dict().items()
    names = {parameter: name for name, parameter in task.named_parameters()}
    for parameter, state in trainer.optimizers[0].state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                yield f"the optimizer's {key} of {names.get(parameter, 'a weight')}", value
