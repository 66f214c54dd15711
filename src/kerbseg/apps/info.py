"""What a model file is, for a reader: its card, its size, its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

import kerbseg.models as models
from kerbseg.bundle import BundleCard, load
from kerbseg.runtime import open_runtime
from kerbseg.runtime.engines import BUNDLE_SUFFIX, size_bytes


@dataclass(frozen=True)
class CardFacts:
    """A model file's card, and what follows from the file itself."""

    path: Path
    card: BundleCard
    precision: str  # what the file computes in
    parameters: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg info --json` writes it: the card's own keys, and those of the file."""
        return {
            **json.loads(self.card.to_json()),
            "file": self.path.name,
            "precision": self.precision,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True)
class Score:
    """One figure of a card with where it was measured."""

    miou: float
    data: str
    split: str


def card_facts(path: Path) -> CardFacts:
    """The card of a bundle or an exported model. Raises BundleError for a file that is damaged or foreign."""
    if path.suffix == BUNDLE_SUFFIX:
        bundle = load(path)  # whole, since a card tells of weights
        card, precision, net = bundle.card, "float32", bundle.model
    else:
        runtime = open_runtime(path)
        card, precision = runtime.card, runtime.precision
        net = models.create_model(card.model, card.outputs, **card.options)
    parameters = sum(each.numel() for each in net.parameters())
    return CardFacts(path, card, precision, parameters, size_bytes(path))


def figures(card: BundleCard) -> Iterator[Score]:
    """The mIoU of each split that a card tells of, in the card's order."""
    yield from _figures(card.scores)


def _figures(scores: Mapping[str, Any]) -> Iterator[Score]:
    if isinstance(miou := scores.get("miou"), int | float):
        protocol = _mapping(scores.get("protocol"))
        yield Score(miou, str(protocol.get("data", "?")), str(protocol.get("split", "?")))
    for value in scores.values():
        if isinstance(value, Mapping):
            yield from _figures(value)


def render(facts: CardFacts) -> Table:
    """The card, a line a fact."""
    card, labels = facts.card, facts.card.labels
    preprocessing = card.preprocessing
    table = Table("fact", "value", title=facts.path.name, show_header=False, min_width=60)
    table.add_row("network", f"{card.model} ({models.card(card.model).paper}), {facts.parameters:,} parameters")
    table.add_row("file", f"{facts.precision}, {facts.size_bytes / 1e6:.3f} MB")
    table.add_row("input size", f"{card.input_size[0]}x{card.input_size[1]} (HxW)")
    if card.resample != "bilinear":
        table.add_row("other sizes", f"are brought to it by {card.resample}")
    table.add_row("classes", f"{len(labels)} of {labels.name}: {', '.join(labels.classes)}")
    if card.outputs > len(labels):
        table.add_row("outputs", f"{card.outputs}: those beyond the classes never win")
    if card.options:
        table.add_row("options", _pairs(card.options))
    table.add_row("preprocessing", _pairs(vars(preprocessing)))
    for score in figures(card):
        table.add_row("mIoU", f"{score.miou:.4f} on {score.data} {score.split}")
    if card.recipe:
        network, data = (_mapping(card.recipe.get(key)).get("name", "?") for key in ("model", "data"))
        table.add_row("recipe", f"{network} on {data}, {card.recipe.get('epochs', '?')} epochs")
    table.add_row("source", card.source or "not said")
    if card.versions:
        table.add_row("written by", _pairs(card.versions))
    return table


def _mapping(value: object) -> Mapping[str, Any]:
    """What a card holds where a mapping belongs: scores and recipe are whatever its writer put there."""
    return value if isinstance(value, Mapping) else {}


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
