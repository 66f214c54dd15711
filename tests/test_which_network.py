"""The page that says which network: its tables are the results, its networks exist, its walk is walked."""

import importlib
import itertools
import json
import re
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from golden_rule import filled, read_keys
from kerbseg.bundle import read_card, shipped
from kerbseg.cli import main
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import drive
from kerbseg.models import card, list_models

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "which-network.md").read_text()
WALKS = [
    block
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    if block.startswith("kerbseg import ")
]
"""The two of the section on published weights."""


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("which_network")


@pytest.fixture
def figures(bench):
    return json.loads(bench.FIGURES.read_text())


def cells(table):
    """Of every row below the head."""
    return [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]


def test_the_tables_of_the_page_are_the_results(bench, figures):
    zoo, calls = (json.loads(path.read_text()) for path in (bench.ZOO, bench.CALLS))
    for mark, inside in bench.tables(figures, zoo, calls).items():
        made = bench.between(PAGE, mark, inside)
        assert made == PAGE, "python benchmarks/which_network.py --page docs/which-network.md"


def test_a_whole_call_adds_at_most_two_milliseconds_to_each_network_of_other_houses(bench):
    calls = json.loads(bench.CALLS.read_text())
    assert (calls["protocol"]["size"], calls["protocol"]["precision"]) == ([512, 1024], "int8")
    rows = {row["network"]: row for row in calls["networks"]}
    for name in ("fast_scnn", "pp_liteseg_t", "ddrnet_23_slim", "pidnet_s"):
        assert rows[name]["call_ms"] - rows[name]["network_ms"] <= 2, name
        assert rows[name]["borders"] < bench.NOISE, "a street's, or the last stage has other work"
    assert rows["fast_scnn"]["call_ms"] <= 0.5 * rows["mininet_v2_cpu"]["call_ms"]


def test_every_network_of_the_script_is_in_the_results(bench, figures):
    rows = {row["network"]: row for row in figures["networks"]}
    assert set(rows) == set(bench.NETWORKS)
    assert figures["protocol"]["size"] == [512, 1024]
    assert "instructions" in figures["protocol"]
    for name, row in rows.items():
        assert row["parameters"] == card(name).parameters
        if row["call_ms"] is not None:
            assert 0 < row["network_ms"] < 1.25 * row["call_ms"]  # the two are timed in turns of their own
            assert row["runs"] >= 3
            assert 0 < row["borders"] < 1
        if card(name).input == (512, 1024):
            assert row["macs"] == card(name).macs


def test_networks_weights_and_papers_that_it_names_exist(bench):
    named = set(re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)`", PAGE))
    assert named >= {"kerbnet_s", "pidnet_s", "ddrnet_23_slim", "fast_scnn"}
    assert named <= set(list_models())
    assert set(re.findall(r"`([\w-]+-camvid)`", PAGE)) <= set(shipped())
    for place in re.findall(r"\]\(((?:papers|reference)/[\w-]+)\.md\)", PAGE):
        assert f"{place}.md" in (ROOT / "mkdocs.yml").read_text()


def test_what_it_says_of_the_best_is_so(bench):
    zoo = json.loads(bench.ZOO.read_text())["networks"]
    assert max(zoo, key=lambda name: zoo[name]["test"]["miou"]) == "erfnet-camvid"
    assert zoo["kerbnet_m-camvid"]["test"]["miou"] > zoo["kerbnet_s-camvid"]["test"]["miou"]
    printed = {name: bench.published(name, (512, 1024)) for name in bench.NETWORKS}
    on_val = {name: each.miou for name, each in printed.items() if each is not None and each.data == "Cityscapes"}
    assert sorted(on_val, key=on_val.get)[-2:] == ["ddrnet_23_slim", "pidnet_s"]


def test_of_printed_figures_the_one_at_the_nearest_size_is_taken(bench):
    chosen = bench.published("mininet_v2", (512, 1024))
    assert (chosen.miou, chosen.split, chosen.size) == (0.705, "test", (512, 1024))
    assert bench.published("pp_liteseg_t", (512, 1024)).miou == 0.731
    assert bench.published("kerbnet_s", (512, 1024)) is None
    assert bench.in_words(None) == "none printed"
    on_other_data = bench.published("efficientseg_1_5", (512, 1024))
    assert bench.in_words(on_other_data).startswith("51.5 % Minicity test, 768x384 (")
    assert bench.in_words(chosen) == "70.5 % test, 1024x512 ([MiniNet-v2, table 6](papers/mininet.md))"


def test_borders_are_counted(bench):
    ids = np.zeros((4, 4), np.uint8)
    assert bench.border_share(ids) == 0
    ids[:, 2:] = 1
    assert bench.border_share(ids) == 4 / 16


def put_authors_file(path: Path, network: str) -> None:
    """Random weights under the authors' names."""
    torch.save({f"model.{key}": value for key, value in filled(read_keys(network), 1.2).items()}, path)


def put_film(path: Path, size: tuple[int, int], frames: int) -> None:
    """A drawn drive."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.height, stream.width = size
        for picture, _ in itertools.islice(drive(3, size), frames):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        film.mux(stream.encode())


@pytest.mark.slow
@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.split()[2])
def test_from_an_authors_file_to_int8_on_a_video(walk, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line)[1:] for line in walk.splitlines()]
    assert [words[0] for words in lines] == ["import", "info", "export", "predict"]
    network = "ddrnet_23_slim" if "ddrnet" in walk else "pidnet_s"
    put_authors_file(Path(lines[0][2]), network)
    (tmp_path / "my_pictures").mkdir()
    for number, (picture, _) in enumerate(itertools.islice(drive(4, (64, 128)), 4)):
        Image.fromarray(picture).save(tmp_path / "my_pictures" / f"{number}.png")
    put_film(tmp_path / "drive.mp4", (64, 128), 3)
    for words in lines:
        main(["64x128" if word == "512x1024" else word for word in words])
    shown = capsys.readouterr().out
    assert "19 classes of cityscapes" in shown
    assert "MIT License" in " ".join(shown.split())
    bundle, exported = lines[0][4], lines[2][3]
    assert read_card(bundle).model == network
    assert read_card(bundle).labels == label_set("cityscapes")
    assert Path(exported).with_suffix(".bin").stat().st_size < 0.5 * Path(bundle).stat().st_size
    with av.open(str(tmp_path / "out" / "drive_overlay.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 3


def test_there_are_two_walks_of_four_commands():
    assert [len(walk.splitlines()) for walk in WALKS] == [4, 4]
