"""What mkdocs does besides rendering `docs/`: the start page is README.md, and references are made from the code.

Generated pages exist in the built site alone, so they cannot be older than the code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from sitegen import commands, dataset_yaml, networks, papers, recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # to a file, in markdown
HOME = "index.md"
COPIES = "repository"  # where the site keeps files from outside `docs/` that a page links to


def pages(measure: bool = True) -> dict[str, str]:
    """Every generated page by its place in `docs/`; without `measure`, the papers' tables have no figures of ours."""
    return {
        HOME: origin(HOME).read_text(),
        "reference/cli.md": commands.page(),
        "reference/dataset-yaml.md": dataset_yaml.page(),
        "reference/networks.md": networks.page(),
        "reference/recipe.md": recipes.keys_page(),
        "reference/recipes.md": recipes.shipped_page(),
        **papers.pages(measure),
    }


def origin(place: str) -> Path:
    """The file of the repository that a page of the site is made from."""
    if place == HOME:
        return ROOT / "README.md"
    return ROOT / place.removeprefix(f"{COPIES}/") if place.startswith(f"{COPIES}/") else DOCS / place


def place_of(path: Path) -> str:
    """Where the site has a file of the repository."""
    if path == origin(HOME):
        return HOME
    return str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else f"{COPIES}/{path.relative_to(ROOT)}"


def targets(markdown: str, page: Path) -> Iterator[Path]:
    """The files that a page links to."""
    for target in LINK.findall(markdown):
        path = Path(os.path.normpath(page.parent / target))
        if path.is_file():
            yield path


def linked() -> list[Path]:
    """The files outside `docs/` that pages of the site link to, directly or by another such file."""
    waiting, copies = [origin(HOME), *DOCS.rglob("*.md")], set()
    while waiting:
        page = waiting.pop()
        new = {each for each in targets(page.read_text(), page) if not each.is_relative_to(DOCS)} - copies - {page}
        copies |= new
        waiting += [each for each in new if each.suffix == ".md"]
    return sorted(copies - {origin(HOME)})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is generated, and what is linked to."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    for path in linked():
        files.append(File.generated(config, place_of(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links between files of the repository links between pages of the site."""
    place = page.file.src_uri
    home = origin(place)

    def relocated(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(home.parent / link[1]))
        return os.path.relpath(place_of(path), Path(place).parent) if path.is_file() else link[1]

    return LINK.sub(relocated, markdown)
