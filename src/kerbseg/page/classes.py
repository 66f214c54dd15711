"""The classes of all models of a page: a name has one id, one color and one switch, whichever model says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID


@dataclass(frozen=True, eq=False)
class PageClasses:
    """Every class once, and what the ids of each model are among them."""

    labels: LabelSet
    lookups: tuple[UInt8[np.ndarray, " 256"], ...]  # of each model: its id -> the page's

    @classmethod
    def of(cls, models: Sequence[LabelSet]) -> PageClasses:
        """The classes of these models, in their order. Raises KerbsegError where together they are too many for ids."""
        owners: dict[str, LabelSet] = {}
        for labels in models:
            for name in labels.classes:
                owners.setdefault(name, labels)
        names = tuple(owners)
        joined = LabelSet(
            " and ".join(dict.fromkeys(labels.name for labels in models)),
            names,
            tuple(owner.colors[owner.classes.index(name)] for name, owner in owners.items()),
            background=frozenset(name for name, owner in owners.items() if name in owner.background),
        )
        return cls(joined, tuple(_lookup(labels, names) for labels in models))

    def painted(self) -> list[str]:
        """The classes that are painted where nobody has switched one: all but background."""
        return [name for name in self.labels.classes if name not in self.labels.background]


def _lookup(labels: LabelSet, names: Sequence[str]) -> UInt8[np.ndarray, " 256"]:
    table = np.full(256, VOID, np.uint8)
    table[: len(labels)] = [names.index(name) for name in labels.classes]
    return table
