"""Optimizers and learning-rate schedules of the recipes; a schedule is a pure function of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn import Conv2d, Module, Parameter
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, AdamW
from torch.optim import Optimizer as TorchOptimizer

from kerbseg.core.errors import RecipeError
from kerbseg.train.recipe import AnyRecipe
from kerbseg.train.recipe_optim import Optimizer, ParamGroup, Schedule


@dataclass(frozen=True)
class Movement:
    """How the weights of a run move: the optimizer, and the share of each of its groups' rate at each step."""

    optimizer: Callable[[], TorchOptimizer]
    schedules: tuple[Callable[[int], float], ...]


def movement(recipe: AnyRecipe, net: Module, steps_per_epoch: int, besides: Iterable[Parameter] = ()) -> Movement:
    """The recipe's, of a network and of weights that train with it. Raises RecipeError as `parameter_groups`."""
    groups = parameter_groups(net, recipe.optim.groups, besides)
    share, fused = schedule(recipe.schedule, recipe.epochs, steps_per_epoch), takes_fused(recipe)
    shares = schedules(share, recipe.optim, steps_per_epoch)
    if recipe.optim.no_decay:
        groups, shares = apart(groups, shares, undecayed(net, recipe.optim.no_decay))
    return Movement(lambda: optimizer(groups, recipe.optim, fused), tuple(shares))


def takes_fused(recipe: AnyRecipe) -> bool:
    """Whether one kernel can move all weights, where torch would take several for each of them.

    Lightning clips no gradients of such an optimizer in mixed precision, and float16 needs them unscaled first.
    """
    return recipe.precision == "float32" or (recipe.precision == "bfloat16" and recipe.optim.clip is None)


def optimizer(
    parameters: Iterable[Parameter] | Iterable[dict[str, Any]], settings: Optimizer, fused: bool = False
) -> TorchOptimizer:
    """The recipe's optimizer over these weights; `fused` moves them by one kernel, to the same but for rounding."""
    if settings.name == "sgd":
        return SGD(
            parameters,
            settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
            fused=fused or None,
        )
    kind = {"adam": Adam, "adamw": AdamW}[settings.name]
    return kind(parameters, settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=fused or None)


def schedule(settings: Schedule, epochs: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Share of the learning rate at each step, at most 1. Plateau's is constant: it follows results (see callbacks)."""
    total, warmup = epochs * steps_per_epoch, settings.warmup * steps_per_epoch
    held, late = getattr(settings, "hold", None), getattr(settings, "late", False)

    def share(step: int) -> float:
        step = max(0, step - late)
        if step < warmup:
            if (lowest := settings.warmup_from) is not None:
                return lowest + (1 - lowest) * step / warmup
            return (step + 1) / (warmup + 1)
        if held is not None:
            step -= step % (held * steps_per_epoch)
        # a stretch of held epochs may begin before the warm-up has ended
        done = min(1.0, max(0.0, step - warmup) / max(1.0, total - warmup))
        return _share(settings, done, step // steps_per_epoch)

    return share


def _share(settings: Schedule, done: float, epoch: int) -> float:
    """After the warm-up, where the share `done` of the rest is over."""
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
        return settings.factor ** max(0.0, epoch - settings.after)
    if settings.name == "step":
        return settings.factor ** bisect_right(settings.milestones, epoch)
    return 1.0


def parameter_groups(
    net: Module, parts: Sequence[ParamGroup], besides: Iterable[Parameter] = ()
) -> list[dict[str, Any]]:
    """The weights that belong to no part, and those of each part, for an optimizer.

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


def undecayed(net: Module, kinds: Collection[str]) -> set[Parameter]:
    """The weights of some kinds: `depthwise` convolutions, batch-`norm`, and each `bias`.

    Of a depthwise convolution or batch-norm that has a bias, the bias is no weight of its kind.
    """
    chosen: set[Parameter] = set()
    for module in net.modules():
        depthwise = isinstance(module, Conv2d) and 1 < module.groups == module.in_channels
        kind = "depthwise" if depthwise else "norm" if isinstance(module, _BatchNorm) else ""
        for name, parameter in module.named_parameters(recurse=False):
            if ("bias" if name == "bias" else kind) in kinds:
                chosen.add(parameter)
    return chosen


def apart(
    groups: Sequence[dict[str, Any]], shares: Sequence[Callable[[int], float]], without: Collection[Parameter]
) -> tuple[list[dict[str, Any]], list[Callable[[int], float]]]:
    """Each group, and behind all of them what it has of the weights `without` decay; their schedules likewise."""
    parts = [
        ({**group, "params": chosen, **more}, share)
        for more, inside in (({}, False), ({"weight_decay": 0.0}, True))
        for group, share in zip(groups, shares, strict=True)
        if (chosen := [each for each in group["params"] if (each in without) == inside]) or not inside
    ]
    return [group for group, _ in parts], [share for _, share in parts]


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
