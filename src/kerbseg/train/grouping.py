"""Gradual grouping while a network trains: alpha falls, and results count once it is 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn

from kerbseg.compress.grouping import set_alpha


class GradualGrouping(Callback):
    """Sets alpha before each step; a pure function of epoch and step, so a resumed run needs no memory of it."""

    def __init__(self, net: nn.Module, alpha: Callable[[int, int], float]) -> None:
        self._net, self._alpha = net, alpha
        self.alpha = alpha(0, 0)

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """The alpha of this step; `metrics.csv` has the last one of each epoch, under which it is validated."""
        self.alpha = self._alpha(trainer.current_epoch, trainer.global_step)
        set_alpha(self._net, self.alpha)
        task.log("alpha", self.alpha, on_step=False, on_epoch=True, reduce_fx="min", batch_size=1)

    def fully_grouped(self) -> bool:
        """Whether the convolutions are grouped by now: the paper takes IoU only then (sec. 4.3)."""
        return self.alpha == 0
