"""Confidence of every runtime: the page is the results, the results keep the bars, and the script runs."""

import importlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from kerbseg.bundle import read_card, shipped
from kerbseg.model_files import locate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "confidence.md").read_text()


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("confidence")


@pytest.fixture
def figures(bench):
    return json.loads(bench.RESULTS.read_text())


def test_the_tables_of_the_page_are_the_results(bench, figures):
    tables = bench.tables(figures)
    assert set(tables) == {"runtimes", "calibration"}
    for mark, inside in tables.items():
        assert bench.between(PAGE, mark, inside) == PAGE, "python benchmarks/confidence.py --page docs/confidence.md"


def test_what_is_said_of_things_out_of_place_is_the_results(bench):
    script = importlib.import_module("out_of_place")
    assert bench.between(PAGE, script.MARK, script.table(json.loads(script.RESULTS.read_text()))) == PAGE


def test_every_runtime_is_within_a_level_of_the_softmax_of_its_logits(figures):
    measured = {name: row for name, row in figures["runtimes"].items() if "uint8" in row}
    assert {name for name in measured if "int8" in name} >= {".onnx, int8", ".xml, int8", ".tflite, int8", ".pte, int8"}
    assert {name for name in measured if "accelerated" in name}
    for name, row in measured.items():
        assert row["uint8"]["own"] >= 0.999, name
        assert row.get("float32", row["uint8"])["own"] >= 0.999, name


def test_every_float_runtime_is_within_a_level_of_torchs_softmax(figures):
    floats = [row for row in figures["runtimes"].values() if row.get("precision") == "float32"]
    assert len(floats) > 9
    assert all(row["uint8"]["torch"] >= 0.999 and row["same_ids"] >= 0.999 for row in floats)
    assert all(row["unknown"]["as_torch"] >= 0.999 for row in floats if "unknown" in row)


def test_temperatures_and_errors_of_the_cards_come_out_again(figures):
    assert set(figures["calibration"]) == set(shipped())
    for name, row in figures["calibration"].items():
        stored = read_card(locate(name)).scores["calibration"]
        assert row["card"]["temperature"] == stored["temperature"], name
        assert row["again"]["temperature"] == pytest.approx(stored["temperature"], abs=2e-3), name
        for when in ("before", "after"):
            assert row["again"][when]["ece"] == pytest.approx(stored[when]["ece"], abs=2e-4), name


def test_what_is_not_installed_is_said_on_the_page(bench):
    rows = {
        ".pte, float": {"not_measured": "executorch is not installed"},
        ".xml, float": {
            "same_ids": 0.9999,
            "float32": {"own": 1.0},
            "uint8": {"own": 0.99995, "torch": 0.99912},
        },
    }
    assert bench.runtimes_table(rows).splitlines()[2:] == [
        "| .pte, float | not measured: executorch is not installed | | | |",
        "| .xml, float | 99.99 % | 100.00 % | 100.00 % | 99.91 % |",
    ]


@pytest.mark.slow
def test_the_script_runs_on_drawn_streets(bench, tmp_path, capsys):
    pytest.importorskip("nncf", reason="nncf is not installed")
    figures = tmp_path / "figures.json"
    few = ["--size", "96", "128", "--pictures", "2", "--calibration", "2", "--model", "kerbnet_s-camvid"]
    bench.main([*few, "--parts", "runtimes", "--work", str(tmp_path / "work"), "--json", str(figures)])
    rows = json.loads(figures.read_text())["runtimes"]
    assert (rows[".pte, float"].get("not_measured") is None) == (find_spec("executorch") is not None)
    for name in (".onnx, int8", ".xml, int8", "accelerated .onnx, float", "accelerated .xml, int8"):
        assert rows[name]["uint8"]["own"] >= 0.999, name
    assert rows["bag with --unknown, .onnx"]["unknown"]["as_torch"] >= 0.999
    assert re.search(r"\.xml, int8 \| \d", capsys.readouterr().out)
