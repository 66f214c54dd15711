"""The site: pages have their place, references are whole, scripts for deployment run without kerbseg, errors are ours.

`make docs` builds the site strictly, in CI too; here is what it cannot see.
"""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image

import kerbseg
from kerbseg.bundle import load
from kerbseg.cli import app
from kerbseg.data.scenes import drive
from kerbseg.export import export
from kerbseg.models import list_models
from kerbseg.runtime.openvino import keeping_signal_stack
from kerbseg.tables import list_papers
from kerbseg.train.recipe_file import shipped

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = sorted(DOCS.rglob("*.md"))
SIZE = (64, 96)
SCRIPTS = [  # of the page on Python: package, script, exported file
    ("onnxruntime", "segment_onnx.py", "street.onnx"),
    ("openvino", "segment_openvino.py", "street.xml"),
]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What mkdocs runs."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra docs)")
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DOCS))
    return module


@pytest.fixture(scope="module")
def pages(hooks) -> dict[str, str]:
    made: dict[str, str] = hooks.pages(measure=False)
    return made


def nav(entry: object) -> list[str]:
    """The pages that a part of the navigation names, in order."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    assert isinstance(parts, list) or hasattr(parts, "__iter__")
    return [page for part in parts for page in nav(part)]


def rows(page: str) -> list[list[str]]:
    """Every row of every table, cell by cell, without heads."""
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


# ---- pages


def test_every_page_stands_in_the_navigation_once(hooks, pages):
    named = nav(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    copies = [hooks.place_of(path) for path in hooks.linked() if path.suffix == ".md"]
    assert set(named) == {str(path.relative_to(DOCS)) for path in WRITTEN} | set(pages) | set(copies)


def test_links_between_files_of_the_repository_become_links_between_pages(hooks):
    class Page:
        class file:
            src_uri = "deploy/python.md"

    text = "[a](../deployment.md#int8) [b](../../README.md) [c](../../constraints.txt) [d](https://example.org/x.md)"
    moved = hooks.on_page_markdown(text, Page, None, None)
    assert moved == (
        "[a](../deployment.md#int8) [b](../index.md) [c](../repository/constraints.txt) [d](https://example.org/x.md)"
    )


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(DOCS)))
def test_pages_name_no_folder_of_the_machine_they_were_written_on(path):
    assert not re.search(r"(?<![\w.}/])/(?:root|work/|home/(?!user))", path.read_text().replace(":/work", ""))


def test_every_command_and_option_is_described(pages):
    page = pages["reference/cli.md"]
    for name in app:
        if not name.startswith("-"):
            section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
            assert section, name
            for argument in app[name].assemble_argument_collection():
                assert argument.name in section or not argument.show, f"{name} {argument.name}"
    assert not re.search(r"\{\w+\}", page), "a list that is not filled in"


@pytest.mark.parametrize("page", ["recipe", "dataset-yaml"])
def test_every_key_has_a_meaning(pages, page):
    table = [row for row in rows(pages[f"reference/{page}.md"]) if row[0].startswith("`")]
    assert len(table) > 10
    assert [row[0] for row in table if not row[1] or not row[3]] == []


def test_every_key_of_a_recipe_has_a_row(pages):
    def keys(recipe):
        for key, value in recipe.items():
            yield key
            if key == "heads":  # by the names that a network gives them
                for head in value.values():
                    yield from keys(head)
            elif isinstance(value, dict) and key != "options":
                yield from keys(value)

    from kerbseg.train.recipe_file import read_any

    described = {row[0].strip("`") for row in rows(pages["reference/recipe.md"])}
    described |= set(re.findall(r"^\*\*`(\w+): ", pages["reference/recipe.md"], re.MULTILINE))
    for name in shipped():
        assert set(keys(read_any(name).to_dict())) <= described, name


def test_all_recipes_networks_and_papers_are_listed(pages):
    assert [row[0].strip("`") for row in rows(pages["reference/recipes.md"])[1:]] == shipped()
    listed = {row[0].strip("`") for row in rows(pages["reference/networks.md"])}
    assert set(list_models()) <= listed
    for paper in list_papers():
        assert "## Table " in pages[f"papers/{paper}.md"]
        assert f"({paper}.md)" in pages["papers/index.md"]


def test_every_public_name_is_on_the_page_of_python():
    page = (DOCS / "reference" / "python.md").read_text()
    headings = set(re.findall(r"heading: kerbseg\.(\w+)", page))
    assert set(kerbseg.__all__) - {"__version__"} <= headings
    for target in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE):
        module, _, name = target.rpartition(".")
        assert hasattr(importlib.import_module(module), name), target


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nobody_for_anything(hooks, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["']?https?:""", page.read_text()), page


# ---- errors


def messages(folder: Path) -> list[str]:
    """All texts in the source, `…` where a value comes in."""
    texts = []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_the_errors_that_are_explained_are_ours():
    page = (DOCS / "faq.md").read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    assert len(explained) > 10
    known = messages(ROOT / "src")
    assert [text for text in explained if not any(text in message for message in known)] == []


# ---- deployment


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """A folder with an exported network in both forms, and a picture of its size."""
    folder = tmp_path_factory.mktemp("street")
    bundle = load("mininet_v2_cpu-camvid")
    for name in ("street.onnx", "street.xml"):
        export(bundle, folder / name, size=SIZE)
    Image.fromarray(next(iter(drive(3, SIZE)))[0]).save(folder / "street.ppm")
    Image.open(folder / "street.ppm").save(folder / "street.jpg", quality=95)
    return folder


def snippets(page: str, language: str) -> list[str]:
    """The blocks of a page on deployment in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / "deploy" / page).read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("engine", "script", "model"), SCRIPTS)
def test_a_script_gives_the_ids_of_kerbseg_without_kerbseg(street, engine, script, model):
    pytest.importorskip(engine)
    [text] = [text for text in snippets("python.md", "python") if text.startswith(f"# {script}\n")]
    (street / "ids.png").unlink(missing_ok=True)
    alone = "import sys; sys.modules['kerbseg'] = None; sys.modules['torch'] = None\n"
    ran = subprocess.run([sys.executable, "-c", alone + text], cwd=street, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    expected = kerbseg.Predictor(street / model)(street / "street.jpg")
    assert (np.asarray(Image.open(street / "ids.png")) == expected.ids).mean() > 0.999
    printed = dict(line.rsplit(maxsplit=1) for line in ran.stdout.splitlines())
    assert list(printed) == list(expected.names)
    largest, share = next(iter(expected.shares().items()))
    assert float(printed[largest].rstrip("%")) == pytest.approx(100 * share, abs=0.11)


def test_the_rest_of_the_page_runs_after_its_scripts(street, monkeypatch, capsys):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(street)
    names: dict[str, object] = {}
    with keeping_signal_stack():  # the page makes a core of OpenVINO
        for text in snippets("python.md", "python"):
            exec(text, names)
        names.clear()
    assert "frame 2: " in capsys.readouterr().out


def test_the_program_in_cpp_gives_the_ids_of_kerbseg(street, tmp_path):
    openvino = pytest.importorskip("openvino")
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no cmake and C++ compiler here")
    [program] = [text for text in snippets("cpp.md", "cpp") if "openvino/openvino.hpp" in text]
    [cmake] = snippets("cpp.md", "cmake")
    (tmp_path / "segment.cpp").write_text(program)
    (tmp_path / "CMakeLists.txt").write_text(cmake)
    cmake_files = Path(openvino.__path__[0]) / "cmake"
    if not cmake_files.is_dir():
        pytest.skip("this build of OpenVINO has no CMake files")
    for command in (["-B", "build", "-D", f"OpenVINO_DIR={cmake_files}"], ["--build", "build"]):
        subprocess.run(["cmake", *command], cwd=tmp_path, capture_output=True, check=True)
    segment = tmp_path / "build" / "segment"
    given = ["street.xml", "street.ppm", str(tmp_path / "ids.pgm")]
    subprocess.run([segment, *given], cwd=street, capture_output=True, check=True)
    ids = np.asarray(Image.open(tmp_path / "ids.pgm"))
    assert (ids == kerbseg.Predictor(street / "street.xml")(street / "street.ppm").ids).mean() > 0.999
    wrong = subprocess.run([segment, "street.xml"], cwd=street, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.startswith("usage: ")) == (1, True)


def test_exported_files_say_their_classes(street):
    onnxruntime = pytest.importorskip("onnxruntime")
    known = onnxruntime.InferenceSession(street / "street.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(known["names"])[:2] == ["sky", "building"]
