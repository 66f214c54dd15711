"""What the comment at the head of a shipped recipe says: paper, expected figure, command, cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kerbseg.train.recipe_file import find, read_any, shipped

_KEY = re.compile(r"#\s?(?P<key>[A-Z][a-z]+):\s+(?P<value>.*)")


@dataclass(frozen=True)
class RecipeEntry:
    """A shipped recipe, as a list of recipes shows it."""

    name: str
    network: str
    data: str
    epochs: int
    summary: str  # first line of the header
    expected: str  # figure, with where it was measured or printed

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg recipes --json` writes it."""
        return asdict(self)


def shipped_recipes() -> list[RecipeEntry]:
    """The recipes that come with kerbseg, checked, in order of their names."""
    entries = []
    for name in shipped():
        recipe, header = read_any(name), read_header(find(name).read_text())
        summary, expected = header["Summary"], header.get("Expected", "")
        entries.append(RecipeEntry(name, recipe.model.name, recipe.data.name, recipe.epochs, summary, expected))
    return entries


def read_header(text: str) -> Mapping[str, str]:
    """The keys of a recipe's first comment with their texts on one line; `Summary` is what stands above them."""
    header: dict[str, str] = {"Summary": ""}
    key = "Summary"
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if match := _KEY.fullmatch(line):
            key = match["key"]
            header[key] = match["value"].strip()
        else:
            header[key] = f"{header[key]} {line.lstrip('#').strip()}".strip()
    return header
