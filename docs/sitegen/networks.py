"""The networks that are registered, and the weights that come with kerbseg."""

from __future__ import annotations

import kerbseg.models as registry
from kerbseg.apps.info import card_facts, figures
from kerbseg.bundle import locate, shipped
from kerbseg.models import Card
from kerbseg.tables import list_papers

HEAD = """# Networks

`kerbseg models --all` prints this list. A MAC is one multiplication with one addition; a GMAC is 10⁹ of them. They are
counted at the size that the paper uses. Every network takes other sizes too.
"""
GRID = """| network | parameters | GMACs | at (HxW) | what it is |
|---|--:|--:|---|---|
"""


def page() -> str:
    """Tables of weights, of main networks and of ablations."""
    cards = [registry.card(name) for name in registry.list_models()]
    weights = "\n".join(_weights(name) for name in shipped())
    return "\n".join(
        (
            HEAD,
            "## Trained weights that come with kerbseg\n",
            f"| name | network | classes | parameters | size | mIoU |\n|---|---|---|--:|--:|---|\n{weights}\n",
            "## Main networks\n",
            GRID + "".join(map(_line, filter(lambda card: card.main, cards))),
            "## Stages and ablations of the papers\n",
            GRID + "".join(map(_line, filter(lambda card: not card.main, cards))),
        )
    )


def _line(card: Card) -> str:
    height, width = card.input
    paper = f" ([tables](../papers/{card.paper}.md))" if card.paper in list_papers() else ""
    figures = f"{card.parameters:,} | {card.macs / 1e9:.2f} | {height}x{width}"
    return f"| `{card.name}` | {figures} | {card.summary}{paper} |\n"


def _weights(name: str) -> str:
    facts = card_facts(locate(name))
    scores = "<br>".join(f"{score.miou:.4f} on {score.data} {score.split}" for score in figures(facts.card))
    labels = f"{len(facts.card.labels)} of {facts.card.labels.name}"
    size = f"{facts.size_bytes / 1e6:.1f} MB"
    return f"| `{name}` | `{facts.card.model}` | {labels} | {facts.parameters:,} | {size} | {scores} |"
