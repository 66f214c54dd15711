"""`kerbseg group`: the grouped network of a dense one, gradual grouping's collapse without the training."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, load_strictly, versions
from kerbseg.compress.convolutions import Selection, choose, convolutions
from kerbseg.compress.grouping import collapse, fade, make_dense, outside_share
from kerbseg.core.errors import KerbsegError
from kerbseg.core.outline import outlines


@dataclass(frozen=True)
class Grouped:
    """What comes out, and what was lost on the way."""

    bundle: Bundle
    names: tuple[str, ...]  # of the convolutions that are grouped now
    lost: float  # share of their squared weights that lay outside the groups


def group(source: Bundle, groups: int, selection: Selection | None = None, into: str | None = None) -> Grouped:
    """The bundle of the registered network that groups convolutions of `source`, which it computes at alpha 0.

    Without `into`, the first registered variant of the same paper that has these groups; where there is none, the
    same network with the option `grouped`. Raises KerbsegError with the reason if `source` is not the dense network of
    what is asked for: other weights, other convolutions, or another use of them, such as a channel shuffle.
    """
    if into is not None:
        models.card(into)  # an unknown name is refused before anything else
        options = dict(source.card.options) if models.card(into).paper == models.card(source.card.model).paper else {}
        _check_weights(source, into, options)
        names = _newly_grouped(source.model, into, source.card.outputs, options)
        _check_groups(source.model, names, groups, selection, into)
        return _collapsed(source, into, options, names)
    for name in models.list_models():
        if name != source.card.model and models.card(name).paper == models.card(source.card.model).paper:
            try:
                return group(source, groups, selection, name)
            except KerbsegError:
                continue
    if "grouped" in source.card.options:
        raise KerbsegError(
            f"this {source.card.model} has the option `grouped` already; group its dense network at once"
        )
    selection = selection or Selection()
    names = dict.fromkeys(choose(source.model, selection, groups), groups)
    wanted = {"groups": groups, "names": list(selection.names), "kinds": list(selection.kinds)}
    wanted["channels"] = selection.channels
    return _collapsed(source, source.card.model, {**source.card.options, "grouped": wanted}, names)


def _check_weights(source: Bundle, into: str, options: dict[str, Any]) -> None:
    """Raises KerbsegError if the names of weights differ, which is cheaper to know than whether shapes do."""
    wanted = set(_outline(into, source.card.outputs, options).state_dict())
    if different := wanted ^ set(source.model.state_dict()):
        has = source.card.model if min(different) not in wanted else into
        raise KerbsegError(f"{source.card.model} does not become {into}: only {has} has {min(different)!r}")


def _newly_grouped(source: nn.Module, into: str, outputs: int, options: dict[str, Any]) -> dict[str, int]:
    """Convolutions that are dense in one network and grouped in the other, with their group counts."""
    before = {name: conv.groups for name, conv in convolutions(source)}
    after = {name: conv.groups for name, conv in convolutions(_outline(into, outputs, options))}
    return {name: count for name, count in after.items() if count > 1 and before.get(name) == 1}


def _check_groups(
    source: nn.Module, names: dict[str, int], groups: int, selection: Selection | None, into: str
) -> None:
    """Raises KerbsegError unless the registered network has these groups, at the places asked for."""
    counts = sorted(set(names.values()))
    if counts != [groups]:
        raise KerbsegError(f"{into} has {counts or 'no new'} groups where this network is dense, not {groups}")
    if selection is not None:
        chosen = choose(source, selection, groups)
        if different := sorted(set(chosen) ^ names.keys()):
            side = "is not grouped in" if different[0] in chosen else "is left dense by this choice, but grouped in"
            raise KerbsegError(f"{different[0]!r} {side} {into}; leave the choice out, or the name of the result")


def _collapsed(source: Bundle, into: str, options: dict[str, Any], names: dict[str, int]) -> Grouped:
    target = models.create_model(into, source.card.outputs, **options)
    dense = copy.deepcopy(target)
    make_dense(dense, names)
    load_strictly(dense, source.model.state_dict(), source.card.model)
    if not _same(source.model, dense.eval(), models.card(into).stride):
        raise KerbsegError(
            f"{source.card.model} is not the dense network of {into}: equal weights give other logits (a channel"
            f" shuffle?); train {into} by a recipe with a grouping section instead"
        )
    fade(dense, names)
    lost = outside_share(dense)
    load_strictly(target, collapse(dense).state_dict(), into)
    card = replace(
        source.card,
        model=into,
        options=options,
        recipe={},
        scores={},
        source=f"{source.card.model} ({source.card.source}) with its convolutions grouped, not trained since",
        versions=versions(),
    )
    return Grouped(Bundle(target.eval(), card), tuple(names), lost)


def _same(one: nn.Module, other: nn.Module, stride: int) -> bool:
    """Whether two networks in eval mode give a picture the same logits."""
    height, width = (-(-side // stride) * stride for side in (96, 128))
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = one(picture), other(picture)
    return bool((actual - expected).abs().max() <= 1e-4 * expected.abs().max())


def _outline(name: str, outputs: int, options: dict[str, Any]) -> nn.Module:
    """A network without memory for its weights."""
    with outlines():
        return models.create_model(name, outputs, **options)
