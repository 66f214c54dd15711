"""What weights say of themselves before torch is imported, and which of the shipped ones suit a data set."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from kerbseg.core.display import is_known, thing_of

BEST = "best.safetensors"  # of a run's folder
NETWORK = "mininet_v2_cpu"  # that is trained where none is asked for: quick on a processor, and what was measured


@dataclass(frozen=True)
class StartCard:
    """A bundle's card, as far as a training that starts from it asks."""

    source: str  # as it was named
    model: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    input_size: tuple[int, int]  # height, width
    miou: float  # on its own data's validation; 0 where nobody has measured it


def shipped_weights() -> tuple[str, ...]:
    """Names of the weights that come with kerbseg."""
    return tuple(sorted(path.stem for path in _shipped_root().glob("*.safetensors")))


def read_start(source: str | Path) -> StartCard | None:
    """The card of a bundle, a run's folder or shipped weights; None for weights that have none.

    Raises BundleError where there is no such file.
    """
    path = _find(source)
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            raw = json.loads((file.metadata() or {})["kerbseg"])
        height, width = raw["input_size"]
        miou = float(raw.get("scores", {}).get("miou") or 0)
        return StartCard(
            str(source), raw["model"], raw["options"], tuple(raw["labels"]["classes"]), (height, width), miou
        )
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None  # what is wrong is said in full when the weights are taken


def nearest_start(classes: Sequence[str], size: tuple[int, int], model: str | None = None) -> StartCard | None:
    """The shipped weights (of a network, where one is named) whose purpose is nearest; None where there are none.

    Those that know most of the classes by name; of equals those whose pictures were nearest in size, then those of the
    network that is quick to train (`NETWORK`), and then the best.
    """
    cards = [card for name in shipped_weights() if (card := read_start(name)) is not None]
    if model is not None:
        cards = [card for card in cards if card.model == model]

    def nearness(card: StartCard) -> tuple[int, float, bool, float]:
        zoom = math.log(math.prod(size) / math.prod(card.input_size))
        known = len(same_classes(classes, card.classes))
        return known, -round(abs(zoom), 1), card.model == NETWORK, card.miou

    return max(cards, key=nearness, default=None)


def same_classes(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Classes of ours that are among theirs, and what they are called there; each of theirs is taken once.

    One name, however it is spelled (`Traffic-Light`), goes before another name for the same thing (`person`,
    `pedestrian`).
    """
    same: dict[str, str] = {}
    for key in (str, _spelled, _known_thing):
        free = {key(name): name for name in reversed(theirs) if name not in same.values()}
        for name in ours:
            if name not in same and key(name) in free:
                same[name] = free.pop(key(name))
    return same


def _known_thing(name: str) -> str:
    """The thing that a name is known to mean; of names that nobody knows, the name itself."""
    thing = thing_of(name)
    return thing if is_known(thing) else name


def _spelled(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _find(source: str | Path) -> Path:
    """As `bundle.locate`, which needs torch, and which is asked where nothing is there."""
    path = Path(source)
    for candidate in (path, path / BEST, _shipped_root() / f"{source}.safetensors"):
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):
            break
    from kerbseg.bundle import locate

    return locate(source)


def _shipped_root() -> Path:
    return Path(str(files("kerbseg") / "weights"))
