"""Which networks differ in kind from those before them; tests of all others, in other numbers, are slow."""

from __future__ import annotations

import functools

import pytest
from torch import nn

from kerbseg.core.outline import outlines
from kerbseg.models import card, create_model, list_models

LARGEST = 20_000_000  # parameters; the weights of larger ones are slow


@functools.cache
def ghost(name: str, classes: int | None = None) -> nn.Module:
    """A network without memory, in eval mode; not to be altered."""
    with outlines():
        return create_model(name, classes).eval()


@functools.cache
def of_a_new_kind(*, classes: bool = True) -> frozenset[str]:
    """Networks with a layer of torch's that none before them has; with `classes` also those of a class of their own."""
    seen: set[type] = set()
    chosen = set()
    for name in list_models():
        net = ghost(name)
        kinds = {type(each) for each in net.modules() if type(each).__module__.startswith("torch.")}
        kinds |= {type(net)} if classes else set()
        if card(name).parameters <= LARGEST and kinds - seen:
            chosen.add(name)
            seen |= kinds
    return frozenset(chosen)


def slow_but_for(names: frozenset[str]) -> list[object]:
    """All networks as parameters of a test, which is slow for others than these."""
    return [pytest.param(name, marks=[] if name in names else [pytest.mark.slow]) for name in list_models()]
