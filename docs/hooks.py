"""What mkdocs does besides rendering `docs/`: the start page is README.md, and references are made from the code.

Generated pages exist in the built site alone, so they cannot be older than the code.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from sitegen import commands, dataset_yaml, networks, papers, recipes

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")  # to a file, in markdown
COPIES = "repository"  # where the site keeps files from outside `docs/` that a page links to


def pages(measure: bool = True) -> dict[str, str]:
    """Every generated page by its place in `docs/`; without `measure`, the papers' tables have no figures of ours."""
    return {
        "index.md": home((ROOT / "README.md").read_text()),
        "reference/cli.md": commands.page(),
        "reference/dataset-yaml.md": dataset_yaml.page(),
        "reference/networks.md": networks.page(),
        "reference/recipe.md": recipes.keys_page(),
        "reference/recipes.md": recipes.shipped_page(),
        **papers.pages(measure),
    }


def home(readme: str) -> str:
    """README.md as a page of `docs/`: its links begin there."""
    inside = "docs/"
    return LINK.sub(lambda to: to[1].removeprefix(inside) if to[1].startswith(inside) else f"../{to[1]}", readme)


def linked() -> dict[str, Path]:
    """The files outside `docs/` that pages link to, by their place in the site."""
    copies = {}
    for page in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        for target in LINK.findall(page.read_text()):
            path = (page.parent / target).resolve()
            if path.is_file() and not path.is_relative_to(DOCS):
                copies[f"{COPIES}/{path.relative_to(ROOT)}"] = path
    return copies


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what is generated, and what is linked to."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    for place, path in linked().items():
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links out of `docs/` to the copies in the site."""
    top = "../" * page.file.src_uri.count("/")
    outside = f"{top}../"
    return LINK.sub(
        lambda to: f"{top}{COPIES}/{to[1].removeprefix(outside)}" if to[1].startswith(outside) else to[1], markdown
    )
