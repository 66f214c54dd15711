"""Which of given weights a network starts from: those of its names and shapes, and the rows of classes of one name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from kerbseg.core.errors import BundleError
from kerbseg.core.outline import outlines
from kerbseg.core.text import counted
from kerbseg.train.start_cards import same_classes

LEAST_TAKEN = 0.1  # share of a network's numbers; with less, the weights are those of another network
MOST_NAMED = 8  # classes in a line


@dataclass(frozen=True)
class Target:
    """What a network is for: its classes, and the weights whose size depends on how many these are."""

    classes: tuple[str, ...] = ()
    axes: Mapping[str, int] | None = None  # by the weight's name, the axis that has one row a class
    entangled: frozenset[str] = frozenset()  # weights of a network in which classes have no rows of their own

    @classmethod
    def of(cls, classes: Sequence[str], create: Callable[[int], nn.Module], besides: int = 0) -> Target:
        """What grows with the number of classes, seen by making the network for one more.

        `besides` is how many outputs the network has beyond its classes.
        Where a weight grows along two axes or by more than a row (ESPNet computes with classes before its last layer),
        all that grow belong together.
        """
        with outlines():
            outputs = len(classes) + besides
            here, more = (create(outputs + each).state_dict() for each in (0, 1))
        axes: dict[str, int] = {}
        growing = {key for key in here.keys() | more.keys() if key not in here or key not in more}
        for key in here.keys() & more.keys():
            sides = list(zip(here[key].shape, more[key].shape, strict=True))
            grown = [axis for axis, (before, after) in enumerate(sides) if before != after]
            if grown:
                growing.add(key)
            if len(grown) == 1 and sides[grown[0]] == (outputs, outputs + 1):
                axes[key] = grown[0]
        return cls(tuple(classes), axes) if len(axes) == len(growing) else cls(tuple(classes), {}, frozenset(growing))


@dataclass(frozen=True)
class Start:
    """What a training begins with."""

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
        parts += [f"{part} ({counted(count, 'weight')})" for part, count in self.fresh.items()]
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
    taken, and for whole numbers in the place of weights.
    """
    state: dict[str, Tensor] = {}
    fresh: dict[str, int] = {}
    taken = 0
    axes = target.axes or {}
    kept = same_classes(target.classes, target.classes if known is None else known)
    as_they_are = known is None or tuple(known) == target.classes  # without a card nothing but their shape tells
    for key, value in own.items():
        other, axis = given.get(key), axes.get(key)
        if other is not None and value.is_floating_point() and not other.is_floating_point():
            raise BundleError(
                f"{where}: {key!r} is {other.dtype}, the network needs {value.dtype}; give those from before they were"
                " quantized"
            )
        state[key] = value
        if axis is not None:
            rows = _rows(value, other, axis, target.classes, known)
            kept = kept if rows is not None else {}
            state[key] = value if rows is None else rows
        elif key in target.entangled and not (as_they_are and other is not None and other.shape == value.shape):
            kept = {}
        elif other is not None and other.shape == value.shape:
            state[key] = other.to(value.dtype)
            taken += value.numel()
        elif not key.endswith("num_batches_tracked"):  # no weight; files of Paddle and of old versions of torch lack it
            part = key.partition(".")[0]
            fresh[part] = fresh.get(part, 0) + 1
    numbers = sum(value.numel() for key, value in own.items() if key not in axes and key not in target.entangled)
    if taken < LEAST_TAKEN * numbers:
        raise BundleError(
            f"{where} shares {'nothing' if not taken else f'only {taken / numbers:.1%}'} with this network; is"
            " it another network? Give weights of the same (an authors' file: convert it first, kerbseg import), or"
            " leave --init away"
        )
    new = tuple(name for name in target.classes if name not in kept) if axes or target.entangled else ()
    return state, Start(fresh, len(target.classes), new)


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
