"""The public surface: what `import kerbseg` gives, whoever imports what first, and what type checkers know of it."""

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import kerbseg
from kerbseg.tables import list_papers, load_paper

PUBLIC = {
    "BundleError", "DataError", "InputError", "KerbsegError", "MissingExtra", "Prediction", "Predictor", "RecipeError",
    "__version__", "accelerate", "calibrate", "create_model", "evaluate", "export", "list_models", "load",
    "open_dataset", "open_runtime", "save", "train", "upsample_argmax",
}  # fmt: skip
ROOT = Path(__file__).parents[1]


def run(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_these_names_are_public_and_no_others():
    assert set(kerbseg.__all__) == PUBLIC
    visible = {name for name in dir(kerbseg) if not (name.startswith("__") and name.endswith("__"))}
    assert visible == PUBLIC - {"__version__"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_name_is_there_and_says_what_it_is(name):
    value = getattr(kerbseg, name)
    if name != "__version__":
        assert inspect.getdoc(value)
        assert name in (value.__name__, "KerbsegError")


def test_importing_costs_nothing():
    heavy = {"numpy", "torch", "PIL", "cyclopts", "rich", "kerbseg.bundle"}
    assert run(f"import kerbseg, sys; print({heavy} & set(sys.modules))") == "set()\n"


KEPT = (
    "import kerbseg, inspect, sys",
    "functions = kerbseg.train, kerbseg.export, kerbseg.evaluate",
    "assert all(inspect.isfunction(each) for each in functions), functions",
    "from kerbseg import train, export, evaluate",
    "assert (train, export, evaluate) == functions",
)
REACHED = (
    "import kerbseg.train.run as one, kerbseg.export.files as other",
    "from kerbseg.train import run",
    "import kerbseg, sys",
    "assert one is run is sys.modules['kerbseg.train.run'] is kerbseg.train.run",
    "assert other is sys.modules['kerbseg.export.files'] is kerbseg.export.files",
)


def seldom(first: str) -> object:
    """Another way to import what the others import: seconds each, for torch is loaded."""
    return pytest.param(first, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "first",
    [
        seldom("import kerbseg"),
        seldom("import kerbseg.train, kerbseg.export, kerbseg.evaluate"),
        seldom("import kerbseg.train.run, kerbseg.export.onnx, kerbseg.evaluate"),
        seldom("from kerbseg.train import run; from kerbseg.export import files; from kerbseg.evaluate import Report"),
        seldom("from kerbseg import train, export, evaluate"),
        seldom("import kerbseg; kerbseg.train, kerbseg.export, kerbseg.evaluate; import kerbseg.train.run"),
        seldom("import kerbseg.cli"),
    ],
)
def test_a_function_keeps_its_name_whoever_imports_its_room(first):
    run("\n".join([first, *KEPT]))


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import kerbseg; kerbseg.train; kerbseg.export\n"])
def test_all_ways_to_import_a_room_work(before):
    run(before + "\n".join(REACHED))


def test_functions_keep_their_names_rooms_are_reached_and_no_more_is_shown_afterwards():
    """One process for what the tests above look at in one each, after the import that is usual."""
    names = "print(sorted(name for name in dir(kerbseg) if not name.startswith('__')))"
    used = "import kerbseg.runtime; kerbseg.load, kerbseg.Predictor"
    assert run(f"import kerbseg; {names}") == run("\n".join(["import kerbseg", *KEPT, *REACHED, *KEPT, used, names]))


def test_the_room_of_prediction_is_reached_without_an_import():
    run("import kerbseg; kerbseg.predict.video; from kerbseg import predict; assert predict is kerbseg.predict")


def test_a_misspelled_name_is_an_error():
    with pytest.raises(AttributeError, match="'Predicter'"):
        kerbseg.Predicter  # noqa: B018


def test_type_checkers_know_the_same_names():
    """They read what stands under TYPE_CHECKING, and see no `__getattr__` that would take any name."""
    tree = ast.parse(Path(kerbseg.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported.pop("predict") == "kerbseg.predict"
    assert imported == {name: f"{home}.{name}" for name, home in kerbseg._HOMES.items()}
    assert not any(isinstance(node, ast.FunctionDef) for node in tree.body)


@pytest.mark.slow
def test_a_type_checker_refuses_a_misspelled_name(tmp_path):
    api = pytest.importorskip("mypy.api")
    (tmp_path / "right.py").write_text("import kerbseg\nkerbseg.train, kerbseg.Predictor, kerbseg.predict.video\n")
    (tmp_path / "wrong.py").write_text("import kerbseg\nkerbseg.Predicter\n")
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--follow-imports", "silent"]
    assert api.run([*options, str(tmp_path / "right.py")])[2] == 0
    said, _, status = api.run([*options, str(tmp_path / "wrong.py")])
    assert (status, '"Predicter"' in said) == (1, True), said


@pytest.mark.parametrize("kind", ["BundleError", "DataError", "InputError", "MissingExtra", "RecipeError"])
def test_every_error_is_a_kerbseg_error(kind):
    assert issubclass(getattr(kerbseg, kind), kerbseg.KerbsegError)


def test_the_version_is_said_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == kerbseg.__version__ == version("kerbseg")


def test_the_citation_names_every_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    references = [f"{each['title']} {each.get('abbreviation', '')}" for each in citation["references"]]
    printed = [name for name in list_papers() if not all(table.unprinted for table in load_paper(name).tables)]
    assert len(references) == len(printed)
    for paper in printed:
        name = load_paper(paper).title.removesuffix("-v2").lower()
        assert any(name in reference.lower() for reference in references), name
    assert all(each["authors"] and each["year"] and each["type"] for each in citation["references"])
