"""The list of networks: people type their names, so there is one registry, for models only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kerbseg.compress.convolutions import group_fresh
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.types import Preprocessing
from kerbseg.models._net import SegmentationNet


@dataclass(frozen=True)
class Card:
    """The published facts of a registered network; a test recomputes parameters and MACs."""

    name: str
    paper: str
    parameters: int  # with `classes` outputs
    macs: int  # at `input`, convolutions and linear layers only
    input: tuple[int, int]  # height, width in the paper
    classes: int
    stride: int  # height and width of a picture are multiples of this
    summary: str  # first line of the builder's docstring
    preprocessing: Preprocessing
    main: bool  # what the paper proposes; an ablation, a stage or a variant of it is not


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
    Raises KerbsegError for an unknown name or option.
    """
    builder, facts = _entry(name)
    grouped = options.pop("grouped", None)
    try:
        net = builder(facts.classes if classes is None else classes, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise KerbsegError(f"model {name!r}: {error}") from error
    if grouped is not None:
        group_fresh(net, grouped)
    return net


def _entry(name: str) -> tuple[Builder, Card]:
    if name not in _builders:
        raise KerbsegError(f"unknown model {name!r}; {did_you_mean(name, _builders)}")
    return _builders[name]
