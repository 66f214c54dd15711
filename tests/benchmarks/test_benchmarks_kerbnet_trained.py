"""The second half of the search behind KerbNet: what is trained, on what, and what the page says of it."""

import importlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kerbseg.models import _registry, create_model

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(_registry, "_builders", dict(_registry._builders))  # designs are registered for a test alone
    return importlib.import_module("kerbnet_trained")


@pytest.mark.parametrize("dilation", [1, 3])
def test_branches_fold_into_one_convolution(dilation, search):
    torch.manual_seed(0)
    module = search.Branched(6, dilation).double()
    for _, bn in module.branches:
        for values in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
            torch.nn.init.uniform_(values, 0.5, 1.5)
    module.eval()
    picture = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    one = module.folded().double()
    # folded in float32: its weights are rounded, nothing else differs
    torch.testing.assert_close(torch.relu(picture + one(picture)), module(picture), rtol=1e-5, atol=1e-5)


def test_designs_are_trained_without_the_drive_that_judges_them(search):
    first = None
    for design in search.DESIGNS:
        recipe = search.training("designs", design, 1, 3).recipe
        assert recipe.data.train == ("train",)
        assert (recipe.data.val, recipe.data.train_names, recipe.data.val_names) == (
            "train",
            ("!0001TP*",),
            ("0001TP*",),
        )
        plain = replace(recipe, model=replace(recipe.model, name="kerbnet_s"))
        first = first or plain
        assert plain == first, "designs differ in the network alone"
        net, own = create_model(recipe.model.name, 5), search.DESIGNS[design](5)
        assert [value.shape for value in net.state_dict().values()] == [
            each.shape for each in own.state_dict().values()
        ]


def test_what_is_taught_differs_in_its_teacher_alone(search):
    alone, *taught = (search.training("teachers", arm, 1, 3).recipe for arm in search.TEACHERS)
    assert alone.distill is None
    assert not alone.data.train_names
    assert [each.distill.teacher for each in taught] == [("mininet_v2-camvid",), ("erfnet-camvid",)]
    assert all(replace(each, distill=None) == alone for each in taught)


def row(kind, arm, seed, val, left_out=None):
    figures = {"kind": kind, "arm": arm, "seed": seed, "val": val}
    return figures if left_out is None else figures | {"left_out": left_out}


def test_a_table_compares_seed_by_seed(search):
    rows = [row("designs", "kerbnet_s", 0, 0.5, 0.2), row("designs", "kerbnet_s", 1, 0.6, 0.4)]
    rows += [row("designs", search.BRANCHES, 1, 0.625, 0.35), row("teachers", "alone", 0, 0.7)]
    first, second = (
        line.split(" | ") for line in search.table(rows, "designs", {"3x3 for 3x1 and 1x3": 26.4}).splitlines()[2:]
    )
    assert first == ["| kerbnet_s", "2", "0.300 ± 0.141", "", "0.550 ± 0.071", "", "not measured |"]
    assert second == ["| branches, folded into 3x3", "1", "0.350", "-0.050", "0.625", "+0.025", "26.4 |"]
    assert search.table(rows, "teachers", {}).splitlines()[2] == "| alone | 1 | 0.700 |  |"


def test_the_page_says_what_the_results_say(search):
    page, figures = (FOLDER.parent / "docs" / "kerbnet.md").read_text(), json.loads(search.FIGURES.read_text())
    for mark, table in search.tables(figures).items():
        assert search.between(page, mark, table) == page, "python benchmarks/kerbnet_trained.py --page docs/kerbnet.md"
    assert {"processor", "date", "epochs", "size", "left_out", "recipe"} <= set(figures["protocol"])


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ([], r"--work .* give one"),
        (
            ["--work", "w", "--kinds", "teachers", "--only", "kerbnet_s"],
            r"--only kerbnet_s: it is not among --kinds teachers",
        ),
    ],
)
def test_what_would_be_ignored_is_refused(typed, told, search, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kerbnet_trained.py", *typed])
    with pytest.raises(SystemExit) as end:
        search.main()
    assert end.value.code == 2
    assert re.search(told, capsys.readouterr().err)
