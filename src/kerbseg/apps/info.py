"""What a model file is, for a reader: its card, its size, its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from safetensors import safe_open

import kerbseg.models as models
from kerbseg.bundle import BundleCard, load
from kerbseg.exported_card import ForeignCard, LastStageCard
from kerbseg.runtime import Exported, open_runtime
from kerbseg.runtime.engines import BUNDLE_SUFFIX, size_bytes

BESIDE = {"train_val", "corruptions", "calibration", "int8", "float16"}  # entries of scores on more than these weights


@dataclass(frozen=True)
class CardFacts:
    """A model file's card, and what follows from the file itself."""

    path: Path
    card: BundleCard
    precision: str  # what the file computes in
    parameters: int
    size_bytes: int
    half: bool = False  # whether kernels are in float16 in the file
    last_stage: LastStageCard | None = None  # of an exported file
    foreign: ForeignCard | None = None  # of a network that is not registered
    refused_by_tensorrt: Sequence[str] | None = None  # of a .onnx file, what its parser would refuse

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg info --json` writes it: the card's own keys, and those of the file."""
        return {
            **json.loads(self.card.to_json()),
            "file": self.path.name,
            "precision": self.precision,
            "parameters": self.parameters,
            "size_bytes": self.size_bytes,
            "kernels_in_float16": self.half,
            **({} if self.last_stage is None else {"logits": self._logits(self.last_stage)}),
            **self._tensorrt(),
        }

    def _tensorrt(self) -> dict[str, Any]:
        if self.refused_by_tensorrt is None:
            return {}
        from kerbseg.export.tensorrt import VERSION

        return {"tensorrt": {"version": VERSION, "refused": list(self.refused_by_tensorrt), "run": False}}

    def _logits(self, last_stage: LastStageCard) -> dict[str, Any]:
        return {key: getattr(last_stage, key) for key in ("dtype", "scale", "zero_point")}


@dataclass(frozen=True)
class Score:
    """One figure of a card with where it was measured."""

    miou: float
    data: str
    split: str


def card_facts(path: Path) -> CardFacts:
    """The card of a bundle or an exported model. Raises BundleError for a file that is damaged or foreign."""
    facts = _facts(path)
    if path.suffix != ".onnx":
        return facts
    from kerbseg.export.tensorrt import refusals  # with all that exports

    return replace(facts, refused_by_tensorrt=refusals(path))


def _facts(path: Path) -> CardFacts:
    if path.suffix == BUNDLE_SUFFIX:
        bundle = load(path)  # whole, since a card tells of weights
        card, precision, net, last_stage = bundle.card, "float32", bundle.model, None
        with safe_open(path, framework="pt") as file:
            half = any(file.get_slice(key).get_dtype() == "F16" for key in file.keys())  # noqa: SIM118
    else:
        runtime = open_runtime(path)
        card, precision = runtime.card, runtime.precision
        last_stage = runtime.last_stage if isinstance(runtime, Exported) else None
        half = False
        if isinstance(runtime, Exported) and runtime.foreign is not None:
            parameters = runtime.foreign.parameters
            return CardFacts(path, card, precision, parameters, size_bytes(path), half, last_stage, runtime.foreign)
        net = models.create_model(card.model, card.outputs, **card.options)
    parameters = sum(each.numel() for each in net.parameters())
    return CardFacts(path, card, precision, parameters, size_bytes(path), half, last_stage)


def figures(card: BundleCard) -> Iterator[Score]:
    """The mIoU of each split that a card tells of, in the card's order, of what the network is by itself."""
    nested = (mapping(value) for key, value in card.scores.items() if key not in BESIDE)
    for scores in (card.scores, *nested):
        miou, protocol = scores.get("miou"), mapping(scores.get("protocol"))
        if isinstance(miou, int | float) and protocol.get("tta", "none") == "none":
            yield Score(miou, str(protocol.get("data", "?")), str(protocol.get("split", "?")))


def _of_tensorrt(refused: Sequence[str]) -> str:
    from kerbseg.export.tensorrt import VERSION

    if not refused:
        return f"the parser of {VERSION} lists all that it holds (not run here)"
    return f"the parser of {VERSION} would refuse (not run here): {'; '.join(refused)}"


def render(facts: CardFacts) -> Table:
    """The card, a line a fact."""
    card, labels = facts.card, facts.card.labels
    preprocessing = card.preprocessing
    table = Table("fact", "value", title=facts.path.name, show_header=False, min_width=60)
    paper = f"of {facts.foreign.file}" if facts.foreign else models.card(card.model).paper
    table.add_row("network", f"{card.model} ({paper}), {facts.parameters:,} parameters")
    half = ", kernels stored in float16" if facts.half else ""
    table.add_row("file", f"{facts.precision}, {facts.size_bytes / 1e6:.3f} MB{half}")
    if (last_stage := facts.last_stage) is not None and last_stage.dtype == "uint8":
        table.add_row("logits", f"uint8 q, which stand for {last_stage.scale:.4g} * (q - {last_stage.zero_point})")
    if facts.refused_by_tensorrt is not None:
        table.add_row("TensorRT", _of_tensorrt(facts.refused_by_tensorrt))
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
    if card.temperature is not None:
        protocol = mapping(mapping(card.scores.get("calibration")).get("protocol"))
        table.add_row(
            "temperature", f"{card.temperature:g}, of {protocol.get('data', '?')} {protocol.get('split', '?')}"
        )
    if card.recipe:
        network, data = (mapping(card.recipe.get(key)).get("name", "?") for key in ("model", "data"))
        table.add_row("recipe", f"{network} on {data}, {card.recipe.get('epochs', '?')} epochs")
    table.add_row("source", card.source or "not said")
    if card.versions:
        table.add_row("written by", _pairs(card.versions))
    return table


def mapping(value: object) -> Mapping[str, Any]:
    """What a card holds where a mapping belongs: scores and recipe are whatever its writer put there."""
    return value if isinstance(value, Mapping) else {}


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
