"""The house: what a room keeps to itself stays there. Layers and heavy packages are checked by `lint-imports`."""

import ast
from pathlib import Path

import pytest

import kerbseg

ROOT = Path(kerbseg.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all that a module imports from kerbseg, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("kerbseg.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_underscored_names_stay_in_their_package(path):
    package = ".".join(["kerbseg", *path.relative_to(ROOT).parent.parts])
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        private = next((i for i, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")), None)
        if private is not None:
            owner = ".".join(parts[:private])
            assert f"{package}.".startswith(f"{owner}."), f"{path.name} imports {name}, which is {owner}'s own"


def test_imports_inside_functions_count():
    code = "def f():\n    from kerbseg.models._input import resize"
    assert imported(ast.parse(code)) == {"kerbseg.models._input.resize"}
