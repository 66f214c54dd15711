"""The cost of a registered network or of a bundle, for a terminal and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

import kerbseg.models as models
from kerbseg.bundle import load, versions
from kerbseg.core.errors import UserError, nearest
from kerbseg.profile.conventions import CONVENTIONS, Counted
from kerbseg.profile.cost import Cost, cost


@dataclass(frozen=True)
class Profile:
    """What a model costs, and how it was counted."""

    name: str
    cost: Cost
    convention: str
    counted: Counted  # under that convention

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg profile --json` writes it; what was not measured is null."""
        found: dict[str, Any] = {
            "name": self.name,
            "parameters": self.cost.parameters,
            "macs": self.cost.macs,
            "gflops": self.cost.flops / 1e9,
            "size_bytes": self.cost.size_bytes,
            "latency_ms": None,
            "layers": [
                {"name": row.name, "kind": row.kind, "parameters": row.parameters, "macs": row.macs}
                for row in self.cost.layers
            ],
            "protocol": {"size": list(self.cost.size), "precision": "float32", "versions": versions()},
        }
        if self.convention != "true":
            found[self.convention] = {"parameters": self.counted.parameters, "operations": self.counted.operations}
        return found


def profile_model(model: str, size: tuple[int, int] | None, convention: str = "true") -> Profile:
    """The cost of a registered name at its paper's size, or of a bundle at its own, or at `size`.

    Raises UserError for an unknown model or convention, InputError for a size that the network cannot take.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"unknown convention {convention!r}; {nearest(convention, CONVENTIONS)}")
    if Path(model).suffix or "/" in model:
        bundle = load(model)
        net, size = bundle.model, size or bundle.card.input_size
    else:
        net, size = models.create_model(model), size or models.card(model).input
    return Profile(model, cost(net, size), convention, CONVENTIONS[convention](net, size))


def render(profile: Profile, layers: bool = False) -> RenderableType:
    """Totals, and the layers if asked for."""
    found = profile.cost
    totals = Table("figure", "value", title=f"{profile.name} at {found.size[0]}x{found.size[1]} (HxW)")
    totals.add_row("parameters", f"{found.parameters:,}")
    totals.add_row("MACs", f"{found.macs / 1e9:.4f} G")
    totals.add_row("operations (2 x MACs)", f"{found.flops / 1e9:.4f} GFLOP")
    totals.add_row("size (float32)", f"{found.size_bytes / 1e6:.3f} MB")
    totals.add_row("latency", "not measured")
    if profile.convention != "true":
        totals.add_row(f"parameters, {profile.convention}", f"{profile.counted.parameters:,}")
        totals.add_row(f"operations, {profile.convention}", f"{profile.counted.operations / 1e9:.4f} G")
    if not layers:
        return totals
    rows = Table("layer", "kind", "parameters", "MMACs", "output")
    for row in found.layers:
        shape = "x".join(map(str, row.output[1:]))
        rows.add_row(row.name, row.kind, f"{row.parameters:,}", f"{row.macs / 1e6:.2f}", shape)
    return Group(rows, totals)
