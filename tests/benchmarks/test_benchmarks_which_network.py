"""Which network: the script from its command line to the page, on the smallest things that it takes."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from kerbseg.models import card

FOLDER = Path(__file__).parents[2] / "benchmarks"
MARKS = ("networks", "protocol", "calls")
PAGE = "\n\n".join(["# Page", *(f"<!-- {mark} -->\n<!-- end of {mark} -->" for mark in MARKS), "after\n"])


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("which_network")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["which_network.py", *map(str, arguments)])
        module.main()

    return run


def test_without_a_clock_times_are_not_measured(run, tmp_path):
    figures, page = tmp_path / "figures.json", tmp_path / "page.md"
    page.write_text(PAGE)
    run("--untimed", "--only", "erfnet", "kerbnet_s", "--json", figures, "--page", page)
    rows = json.loads(figures.read_text())["networks"]
    assert [row["macs"] for row in rows] == [card("erfnet").macs, card("kerbnet_s").macs]
    written = page.read_text()
    assert written.index("`kerbnet_s`") < written.index("`erfnet`")
    assert "| 2.06 M | 26.6 | not measured | not measured | " in written
    assert " | 70.5 % val, 1024x512 ([" in written
    assert "were not measured" in written
    assert written.endswith("after\n")


@pytest.mark.slow
def test_networks_are_timed_by_turns(run, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    few = ["--size", "32x64", "--steps", 1, "--seconds", 0.3, "--threads", 1]
    run("--only", "kerbnet_s", "mininet_v2_cpu", "--json", figures, *few, "--work", tmp_path / "work")
    results = json.loads(figures.read_text())
    assert [row["network"] for row in results["networks"]] == ["kerbnet_s", "mininet_v2_cpu"]
    assert all(min(row["network_ms"], row["call_ms"]) > 0 and row["runs"] >= 3 for row in results["networks"])
    assert results["protocol"]["size"] == [32, 64]
    assert "| `kerbnet_s` | 0.21 M | 0.0 | " in capsys.readouterr().out
    assert len(list((tmp_path / "work").glob("*.xml"))) == 2
