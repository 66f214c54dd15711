"""The throughput of training: every arm trains, and its ratio is to the plain one."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from kerbseg.profiling.machine import processor_name

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def throughput(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import train_throughput

    return train_throughput


def test_every_arm_is_timed_and_compared_with_plain(throughput, tmp_path, monkeypatch, capsys):
    recipe = ["smoke/scenes", "data.limit=4", "data.size=[32, 64]", "augment.progressive=[]", "batch_size=2"]
    few = ["--device", "cpu", "--rounds", "2", "--steps", "1", "--warmup", "1"]
    monkeypatch.setattr(sys, "argv", ["train_throughput.py", *recipe, *few, "--json", str(tmp_path / "speed.json")])
    throughput.main()
    speeds = json.loads((tmp_path / "speed.json").read_text())
    assert len(speeds["arms"]) == 5
    assert speeds["arms"][0]["ratio_to_plain"] == {"median": 1, "lowest": 1, "highest": 1}
    assert all(arm["pictures_per_second"]["lowest"] > 0 for arm in speeds["arms"])
    assert speeds["protocol"]["device"] == "cpu"
    assert speeds["protocol"]["processor"] == processor_name()
    assert speeds["protocol"]["versions"]["torch"] == torch.__version__
    assert "+ channels last" in capsys.readouterr().out


def test_each_arm_changes_one_thing(throughput):
    arms = throughput.ladder(torch.device("cuda"), torch.bfloat16, compiled=True)
    for before, after in pairwise(arms):
        changed = [key for key in vars(after) if key != "name" and vars(after)[key] != vars(before)[key]]
        assert len(changed) == 1, (before, after)
    assert arms[0] == throughput.PLAIN
    assert [arm.cache for arm in arms[:1] + arms[-1:]] == ["none", "device"]


@pytest.mark.slow
def test_two_trees_train_by_turns(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    import train_trees

    stages = "augment.progressive=[{until: 0.5, zoom: 0.5, crop: [32, 64]}, {until: 1.0, zoom: 1.0, crop: [64, 64]}]"
    changed = ["data.size=[64, 64]", stages, "batch_size=2"]
    more = ["--set", *changed, "--set-here", "precision=auto", "--threads", "1", "--steps", "2"]
    own = ["--against", str(FOLDER.parent / "src"), "--data-root", str(tmp_path), "--json", str(tmp_path / "t.json")]
    monkeypatch.setattr(sys, "argv", ["train_trees.py", "smoke/scenes", *more, *own])
    train_trees.main()
    measured = json.loads((tmp_path / "t.json").read_text())
    row = measured["recipes"][0]
    for side in ("before", "after"):
        assert len(row[side]["losses"]) == len(row[side]["seconds_by_resolution"]) == 2, "an epoch a resolution"
        assert row[side]["seconds"] == pytest.approx(sum(row[side]["seconds_by_resolution"]) / 2)
        assert row[side]["validation"] > 0
    assert row["before"]["precision"] == "as the recipe says"
    assert row["after"]["precision"] in ("float32", "bfloat16")
    assert measured["protocol"]["threads"] == 1
    assert "| seconds a picture, in sum |" in capsys.readouterr().out


@pytest.mark.slow
def test_a_tree_that_is_none_is_named(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    import train_trees

    with pytest.raises(SystemExit, match=r"was asked for|failed"):
        train_trees.run(tmp_path, ["no/recipe"], 1)
