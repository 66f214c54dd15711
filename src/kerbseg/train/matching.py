"""Which of given weights a network starts from: those of its names and shapes, and the rows of classes of one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kerbseg.core.errors import BundleError
from kerbseg.train.start_cards import same_classes

LEAST_TAKEN = 0.1  # share of a network's numbers; with less, the weights are those of another network
MOST_NAMED = 8  # classes in a line


@dataclass(frozen=True)
class Target:
    """What a network is for: its classes, and along which axis its weights have one row each."""

    classes: tuple[str, ...] = ()
    axes: Mapping[str, int] | None = None  # by the weight's name

    @classmethod
    def of(cls, classes: Sequence[str], create: Callable[[int], nn.Module]) -> Target:
        """The axes that grow with the number of classes, seen by making the network for one more."""
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            here, more = (create(len(classes) + each).state_dict() for each in (0, 1))
        axes = {}
        for key, value in here.items():
            grown = [i for i, (a, b) in enumerate(zip(value.shape, more[key].shape, strict=True)) if b == a + 1]
            if len(grown) == 1 and value.shape[grown[0]] == len(classes):
                axes[key] = grown[0]
        return cls(tuple(classes), axes)


@dataclass(frozen=True)
class Start:
    """What a training begins with."""

    taken: float  # share of the network's numbers
    fresh: Mapping[str, int]  # part of the network -> its weights that no given one fits
    classes: int
    new: tuple[str, ...]  # classes whose rows in the head are fresh

    @property
    def line(self) -> str:
        """What is fresh, in one line; empty where nothing is."""
        parts = []
        if self.new:
            names = ", ".join(self.new[:MOST_NAMED]) + (
                f" and {len(self.new) - MOST_NAMED} more" if len(self.new) > MOST_NAMED else ""
            )
            verb = "is" if len(self.new) == 1 else "are"
            parts.append(f"classifier head ({len(self.new)} of {self.classes} classes {verb} new: {names})")
        parts += [f"{part} ({count} weight{'' if count == 1 else 's'})" for part, count in self.fresh.items()]
        return f"fresh: {', '.join(parts)}" if parts else ""


def match(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    target: Target,
    known: Sequence[str] | None,
    where: str,
) -> tuple[dict[str, Tensor], Start]:
    """All weights of a network: given ones that have its names and shapes, its own for the rest.

    Of the weights that have a row a class, the rows are taken by the name of the class (`same_classes`), in whatever
    order; `known` are the classes of the given ones. Raises BundleError where less than a tenth of the network is
    taken.
    """
    state: dict[str, Tensor] = {}
    fresh: dict[str, int] = {}
    taken = 0
    axes = target.axes or {}
    head_given = True
    for key, value in own.items():
        other, axis = given.get(key), axes.get(key)
        state[key] = value
        if axis is not None:
            rows = _rows(value, other, axis, target.classes, known)
            head_given &= rows is not None
            state[key] = value if rows is None else rows
        elif other is not None and other.shape == value.shape:
            state[key] = other.to(value.dtype)
            taken += value.numel()
        else:
            part = key.partition(".")[0]
            fresh[part] = fresh.get(part, 0) + 1
    numbers = sum(value.numel() for key, value in own.items() if key not in axes)
    if taken < LEAST_TAKEN * numbers:
        raise BundleError(
            f"{where} shares {'nothing' if not taken else f'only {taken / numbers:.1%}'} with this network; give"
            " weights of the same network, or leave --init away"
        )
    # a class that is not known has fresh rows; so have all where the head does not fit
    kept = same_classes(target.classes, target.classes if known is None else known) if head_given else {}
    new = tuple(name for name in target.classes if name not in kept) if axes else ()
    return state, Start(taken / numbers, fresh, len(target.classes), new)


def _rows(
    own: Tensor, given: Tensor | None, axis: int, classes: Sequence[str], known: Sequence[str] | None
) -> Tensor | None:
    """The network's own weight with the rows of the classes that both have; None where it does not fit."""
    if given is None or given.ndim != own.ndim:
        return None
    if known is None:  # of weights without a card only the number of classes says that they are the same
        return given.to(own.dtype) if given.shape == own.shape else None
    if given.shape[axis] < len(known) or any(
        a != b for i, (a, b) in enumerate(zip(given.shape, own.shape, strict=True)) if i != axis
    ):
        return None
    made = own.clone()
    for ours, theirs in same_classes(classes, known).items():
        made.select(axis, classes.index(ours)).copy_(given.select(axis, known.index(theirs)))
    return made
