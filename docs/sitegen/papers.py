"""A page for each paper: what it is, its networks, and its tables beside our own figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

import kerbseg.models as registry
from kerbseg.profiling import Latency
from kerbseg.tables import list_papers, load_paper, render
from kerbseg.tables.measure import NetworkTimes, Skipped

ROOT = Path(__file__).parents[2]
LONG = 20  # rows of a table that is folded away
HEAD = """# Papers

kerbseg brings these papers together. Each page has the paper's tables: what it prints, what our network comes to, and
the difference. `kerbseg table PAPER --measure` prints the same with times taken on your machine. Accuracies of ours are
those of the weights that come with it (`kerbseg weights`), with their protocol; other accuracies are not measured.

"""


class Untimed(NetworkTimes):
    """No times: they would be those of the machine that built the site."""

    def latency(self, *_: Any) -> Latency | Skipped:
        """Why there is none."""
        return Skipped("depends on the machine")


def pages(measure: bool) -> dict[str, str]:
    """Of every paper, and of all of them."""
    made = {f"papers/{name}.md": _page(name, measure) for name in list_papers()}
    entries = (f"- [{load_paper(name).title}]({name}.md): {_citation(name)}" for name in list_papers())
    return {"papers/index.md": HEAD + "\n".join(entries) + "\n", **made}


def _page(name: str, measure: bool) -> str:
    paper = load_paper(name)
    networks = [registry.card(each) for each in registry.list_models()]
    own = ", ".join(f"`{card.name}`" for card in networks if card.paper == name)
    tables = render(name, None, measure, Untimed()).replace(f"## {paper.title}, table ", "## Table ")
    return f"# {paper.title}\n\n{_citation(name)}\n\nNetworks: {own}.\n\n{_folded(tables)}\n"


def _citation(name: str) -> str:
    """The entry of CITATION.cff as one line; a network that nobody printed has none."""
    paper = load_paper(name)
    if all(table.unprinted for table in paper.tables):
        return "A network of our own, without a paper."
    named = re.compile(rf"(?<![\w-]){re.escape(paper.title.removesuffix('-v2').lower())}\b")  # LiteSeg, not PP-LiteSeg
    references = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    [entry] = [each for each in references if named.search(f"{each['title']} {each.get('abbreviation', '')}".lower())]
    authors = ", ".join(each.get("family-names", each.get("name", "")) for each in entry["authors"])
    where = entry.get("journal") or (entry.get("conference") or {}).get("name") or entry.get("collection-title") or ""
    return ". ".join(filter(None, (authors, f"*{entry['title']}*", where, str(entry["year"])))) + "."


def _folded(text: str) -> str:
    """The text with long comparisons behind a line that opens them."""

    def fold(match: re.Match[str]) -> str:
        count = match[1].count("\n") - 1
        if count <= LONG:
            return match[0]
        inside = "".join(f"    {line}\n" for line in match[1].splitlines())
        return f'??? info "Beside ours: {count} figures"\n\n{inside}'

    return re.sub(r"^Beside ours:\n\n((?:\|.*(?:\n|\Z))+)", fold, text, flags=re.MULTILINE)
