"""Optimisers and learning-rate schedules of the recipes; a schedule is a pure function of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.nn import Module, Parameter
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from kerbseg.core.errors import RecipeError
from kerbseg.train.recipe import Optimizer, ParamGroup, Schedule


def optimizer(parameters: Iterable[Parameter] | Iterable[dict[str, Any]], settings: Optimizer) -> TorchOptimizer:
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
        if settings.hold is not None:
            step -= step % (settings.hold * steps_per_epoch)
        done = min(1.0, (step - warmup) / max(1.0, total - warmup))
        if settings.name == "poly":
            return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * (1 - done) ** settings.power
        if settings.name == "cosine":
            return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * _fall(done)
        if settings.name == "one_cycle":
            if done < settings.pct_start:
                return 0.04 + 0.96 * (1 - _fall(done / settings.pct_start))  # from 1/25 of the peak, as in the paper
            return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * _fall(
                (done - settings.pct_start) / (1 - settings.pct_start)
            )
        if settings.name == "exponential":
            return settings.factor ** max(0.0, step // steps_per_epoch - settings.after)
        if settings.name == "step":
            return settings.factor ** bisect_right(settings.milestones, step // steps_per_epoch)
        return 1.0

    return share


def parameter_groups(
    net: Module, parts: Sequence[ParamGroup], besides: Iterable[Parameter] = ()
) -> list[dict[str, Any]]:
    """The weights that belong to no part, and those of each part, for an optimiser.

    `besides` are weights that train with the network and are not of it; they move as the rest.
    Raises RecipeError for a prefix under which nothing is left.
    """
    groups: list[list[Parameter]] = [list(besides), *([] for _ in parts)]
    for name, parameter in net.named_parameters():
        index = next((i for i, part in enumerate(parts, 1) if name.startswith(part.prefix)), 0)
        groups[index].append(parameter)
    for part, group in zip(parts, groups[1:], strict=True):
        if not group:
            known = ", ".join(f"{name}." for name, _ in net.named_children())
            raise RecipeError(f"optim.groups: no weights are left under {part.prefix!r}; this network has {known}")
    return [{"params": group} for group in groups]


def schedules(share: Callable[[int], float], settings: Optimizer, steps_per_epoch: int) -> list[Callable[[int], float]]:
    """Share of `settings.lr` at each step for each of `parameter_groups`."""

    def of(part: ParamGroup) -> Callable[[int], float]:
        def part_share(step: int) -> float:
            lasts = part.until is None or step < part.until * steps_per_epoch
            return share(step) * (part.lr / settings.lr if lasts else 1.0)

        return part_share

    return [share, *(of(part) for part in settings.groups)]


def _fall(done: float) -> float:
    """Half a cosine, from 1 to 0."""
    return (1 + math.cos(math.pi * done)) / 2
