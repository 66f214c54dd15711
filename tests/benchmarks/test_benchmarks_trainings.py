"""Comparisons go on where they were cut off, and their tables say what the lines say."""

import dataclasses
import importlib
import json
import math
from pathlib import Path

import pytest
import torch

from kerbseg.train.recipe import Augment
from kerbseg.train.recipe_file import read

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = ("epochs=1", "batch_size=2", "data.size=[64, 128]", "data.limit=2", "augment.progressive=[]", "validate_every=1")


@pytest.fixture
def script(monkeypatch):
    """A script of the folder as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_what_is_done_is_not_trained_again(script, tmp_path):
    trainings = script("trainings")
    recipe = read("smoke/scenes", TINY)
    plan = [trainings.Training("net", "arm", recipe)]
    out = tmp_path / "results.jsonl"
    first = trainings.run_all(plan, out, None, tested=False)
    text = out.read_text()
    assert trainings.run_all(plan, out, None, tested=False) == first == [json.loads(text)]
    assert out.read_text() == text
    another = trainings.Training("net", "arm", dataclasses.replace(recipe, seed=1))
    (tmp_path / "net-arm-1").mkdir()  # as a training leaves it that was cut off
    assert [line["seed"] for line in trainings.run_all([*plan, another], out, None, tested=False)] == [0, 1]
    assert len(out.read_text().splitlines()) == 2


def line(arm: str, seed: int, figure: float) -> dict[str, object]:
    figures = dict.fromkeys(("val_best", "val_last", "test_best"), figure)
    return {"network": "mininet_v2_cpu", "arm": arm, "seed": seed, "parameters": 1000, "trained_s": 10.0, **figures}


LINES = [line("modern", 0, 0.40), line("modern", 1, 0.44), line("+ more", 1, 0.45), line("+ more", 0, 0.43)]


def test_the_table_of_a_comparison_has_mean_deviation_and_seeds(script):
    rows = script("gradual_grouping").table(LINES).splitlines()
    assert "42.00 ± 2.83" in rows[2]
    assert rows[3].endswith("| 43.00, 45.00 |")  # by seed, in whatever order they were trained


def test_the_table_of_the_ablation_has_gains_seed_by_seed(script):
    rows = script("modern_recipes").table(LINES).splitlines()
    assert "| 2.00 ± 1.41 |" in rows[3]
    assert "42.00 ± 2.83" in rows[2]


def test_arms_differ_in_what_their_name_says(script):
    grouping = script("gradual_grouping")
    grouped, faded = (grouping.training("erfnet", arm, 0, 4, (120, 160)).recipe for arm in ("grouped", "faded"))
    assert grouped.grouping is None
    assert dataclasses.replace(faded, grouping=None) == grouped
    modern = script("modern_recipes")
    assert dataclasses.replace(modern.ARMS["+ hard pixels"], loss=modern.MODERN.loss) == modern.MODERN


def test_the_picture_of_strengths_shows_every_change_with_a_probability_and_at_its_most(script):
    photometric = script("photometric")
    keys = {field.name for field in dataclasses.fields(Augment)}
    with_probability = {key for key in keys if f"{key}_p" in keys}
    assert set(photometric.STRENGTHS) == {*with_probability, "jpeg_quality"}
    torch.manual_seed(0)
    picture = torch.full((3, 4, 4), 0.5)
    brightest, darkest = 0.5 ** math.exp(-0.8), 0.5 ** math.exp(0.8)
    value = photometric.most_changed(picture, {"gamma": 0.8}).flatten()[0].item()
    assert min(abs(value - brightest), abs(value - darkest)) < 0.03
