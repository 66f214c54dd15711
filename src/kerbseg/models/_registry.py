"""The list of networks: people type their names, so there is one registry, for models only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from numbers import Integral
from typing import Any

from kerbseg.compress.convolutions import group_fresh
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.limits import MOST_OUTPUTS, MOST_PARAMETERS
from kerbseg.core.outline import outlines
from kerbseg.core.types import Preprocessing
from kerbseg.models._net import SegmentationNet


@dataclass(frozen=True)
class Card:
    """The published facts of a registered network; a test recomputes parameters and MACs."""

    name: str
    paper: str
    parameters: int  # with `classes` outputs, without training heads
    macs: int  # at `input`, convolutions and linear layers only
    input: tuple[int, int]  # height, width in the paper
    classes: int
    stride: int  # height and width of a picture are multiples of this
    summary: str  # first line of the builder's docstring
    preprocessing: Preprocessing
    main: bool  # what the paper proposes; an ablation, a stage or a variant of it is not
    parameters_with_heads: int | None = None  # of the network as it is trained, built with `heads=True`


MOST_OF_AN_OPTION = 1024  # channels, blocks
Builder = Callable[..., SegmentationNet]
_builders: dict[str, tuple[Builder, Card]] = {}


def register(
    *,
    paper: str,
    parameters: int,
    macs: int,
    input: tuple[int, int],
    stride: int,
    classes: int = 19,
    preprocessing: Preprocessing | None = None,
    main: bool = True,
    parameters_with_heads: int | None = None,
) -> Callable[[Builder], Builder]:
    """Puts a builder `f(classes, **options) -> SegmentationNet` under its own name; a duplicate is an error."""

    def add(builder: Builder) -> Builder:
        name = builder.__name__
        if name in _builders:
            raise ValueError(f"model {name!r} is registered twice")
        if not builder.__doc__:
            raise ValueError(f"model {name!r} has no docstring")
        card = Card(
            name=name,
            paper=paper,
            parameters=parameters,
            macs=macs,
            input=input,
            classes=classes,
            stride=stride,
            summary=builder.__doc__.strip().splitlines()[0],
            preprocessing=preprocessing or Preprocessing(),
            main=main,
            parameters_with_heads=parameters_with_heads,
        )
        _builders[name] = (builder, card)
        return builder

    return add


def list_models() -> list[str]:
    """Names of all registered networks, in order of registration."""
    return list(_builders)


def card(name: str) -> Card:
    """The card of a registered network. Raises KerbsegError with the nearest name."""
    return _entry(name)[1]


def create_model(name: str, classes: int | None = None, **options: Any) -> SegmentationNet:
    """A registered network with fresh weights: float [b 3 h w] -> logits [b classes h w].

    `options` go to the builder (width, output stride ...). Only `grouped` works for every network: its mapping
    `{groups, names, kinds, channels}` replaces dense convolutions by grouped ones (see `compress.convolutions`).
    Raises KerbsegError for an unknown name or option, for values that the network cannot have, and for one that is
    far larger than any of the papers.
    """
    builder, facts = _entry(name)
    outputs = facts.classes if classes is None else classes
    if not isinstance(outputs, Integral) or isinstance(outputs, bool) or not 1 <= outputs <= MOST_OUTPUTS:
        raise KerbsegError(
            f"model {name!r} cannot have {outputs!r:.80} classes; give a number from 1 to {MOST_OUTPUTS}"
        )
    if not options:
        return builder(outputs)
    with outlines():  # shapes alone: neither time nor memory, whatever a card or a recipe asks for
        parameters = sum(each.numel() for each in _build(name, builder, outputs, options).parameters())
    if parameters > MOST_PARAMETERS:
        raise KerbsegError(
            f"model {name!r} would have {parameters:,} parameters with {options}, at most {MOST_PARAMETERS:,} are made"
        )
    return _build(name, builder, outputs, options)


def _build(name: str, builder: Builder, classes: int, options: Mapping[str, Any]) -> SegmentationNet:
    own = {key: value for key, value in options.items() if key != "grouped"}
    defaults = {
        key: each.default for key, each in signature(builder).parameters.items() if each.default is not each.empty
    }
    for key, value in own.items():
        if key in defaults and not _fits(value, defaults[key]):
            raise KerbsegError(
                f"model {name!r}: option {key} is {value!r:.80}; give one like its default {defaults[key]!r}"
            )
    try:
        net = builder(classes, **own)
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise KerbsegError(f"model {name!r} with {own}: {error}") from error
    if "grouped" in options and options["grouped"] is not None:
        group_fresh(net, options["grouped"])
    return net


def _fits(value: object, default: object) -> bool:
    """Whether an option is of its default's kind, and no number beyond all sense."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    fewest = 1 if isinstance(default, int) else 0  # counts of channels or blocks, against factors
    if isinstance(value, int | float) and not fewest <= value <= MOST_OF_AN_OPTION:  # not: NaN
        return False
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def _entry(name: str) -> tuple[Builder, Card]:
    if not isinstance(name, str) or name not in _builders:
        raise KerbsegError(f"unknown model {name!r:.80}; {did_you_mean(str(name), _builders)}")
    return _builders[name]
