"""Batch-norm while training: how fast its statistics follow, and those of a part that stands still at first."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kerbseg.train.recipe import ParamGroup


def set_bn_momentum(net: nn.Module, momentum: float) -> None:
    """Lets each new batch have this weight in the running statistics: a short run cannot wait for slow ones."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


class FrozenNorm(Callback):
    """Keeps batch-norm of the parts that ask for it in eval mode while they last.

    A learning rate of 5e-20 holds the weights; the running statistics would still follow the new pictures.
    """

    def __init__(self, net: nn.Module, parts: Sequence[ParamGroup]) -> None:
        self._net, self._parts = net, parts

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Freezes or frees them; an epoch in which a part ends half-way is its last."""
        for name, module in self._net.named_modules():
            if isinstance(module, _BatchNorm):
                part = next((part for part in self._parts if name.startswith(part.prefix)), None)
                if part is not None and part.freeze_norm:
                    module.train(part.until is not None and trainer.current_epoch >= part.until)
