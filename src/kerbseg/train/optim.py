"""Optimisers and learning-rate schedules of the recipes; a schedule is a pure function of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from kerbseg.train.recipe import Optimizer, Schedule


def optimizer(parameters: Iterable[Parameter], settings: Optimizer) -> TorchOptimizer:
    """The recipe's optimiser over these weights."""
    if settings.name == "sgd":
        return SGD(
            parameters,
            settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
    kind = {"adam": Adam, "adamw": AdamW}[settings.name]
    return kind(parameters, settings.lr, betas=settings.betas, weight_decay=settings.weight_decay)


def schedule(settings: Schedule, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Share of the learning rate at each step. Plateau is constant here: it follows the scores (see callbacks)."""
    total, warmup = epochs * steps_per_epoch, settings.warmup * steps_per_epoch

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1.0, total - warmup))
        if settings.name == "poly":
            return settings.floor + (1 - settings.floor) * (1 - done) ** settings.power
        if settings.name == "cosine":
            return settings.floor + (1 - settings.floor) * _fall(done)
        if settings.name == "one_cycle":
            if done < settings.rise:
                return 0.04 + 0.96 * (1 - _fall(done / settings.rise))  # from 1/25 of the peak, as in the paper
            return settings.floor + (1 - settings.floor) * _fall((done - settings.rise) / (1 - settings.rise))
        if settings.name == "step":
            return settings.factor ** bisect_right(settings.milestones, step // steps_per_epoch)
        return 1.0

    return share


def _fall(done: float) -> float:
    """Half a cosine, from 1 to 0."""
    return (1 + math.cos(math.pi * done)) / 2
