"""The demo tells the whole story, and its figures are those of its run."""

import csv
import dataclasses
import math
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import here
from kerbseg.apps import demo, deployment, report
from kerbseg.apps.deployment import Deployment, Effort, deploy
from kerbseg.bundle import load
from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate
from kerbseg.predict.predictor import Predictor
from kerbseg.profiling import workers
from kerbseg.profiling.latency import Budget, Skipped
from kerbseg.profiling.machine import processor_name
from kerbseg.runtime import open_runtime
from kerbseg.train.recipe_file import read

BORDER_PX = 2  # how far a border reaches in pictures of this size, at most
LITTLE = Effort(parity=1, calibration=2, eval_set=2, timing=Budget(runs=2))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A demo of two tiny epochs: its page, what it printed, and what it measured."""
    out = tmp_path_factory.mktemp("demo")
    tiny = ("epochs=2", "data.size=[64, 128]", "data.limit=8", "augment.progressive=[]", "validate_every=1")
    few = {"train": 8, "val": 2, "test": 6}
    measured: list[Deployment] = []

    def little(*arguments):
        measured.append(deploy(*arguments, effort=LITTLE))
        return measured[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "fitted_to", lambda minutes, recipe, pictures: read(demo.RECIPE, tiny))
        patch.setattr(demo, "open_dataset", lambda name, split: Scenes(split, few[split], (64, 128)))
        patch.setattr(demo, "examine_all", lambda name, splits: [])
        patch.setattr(demo, "render", lambda examinations: "healthy")
        patch.setattr(demo, "deploy", little)
        patch.setattr(workers, "worker", here.worker)
        patch.setattr(demo.os, "getloadavg", lambda: (3.0, 0.0, 0.0))
        page = demo.run(out, 1.0)
    torch.set_num_threads(1)  # as before: what is timed here takes all
    return page, measured[0]


def test_the_report_needs_no_other_file_and_shows_pictures_curves_and_classes(told):
    page = told[0].read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#|https://)', page)
    assert page.count("data:image/png;base64,") >= 3 * report.SHOWN + 2
    assert page.count('<svg role="img" aria-label=') == 2  # a phone shows each curve at its own width
    for name in ("road", "sidewalk", "traffic light", "bicycle", demo.SHIPPED):
        assert name in page
    assert "1 threads" not in page
    assert page.count("The machine was busy: load 3.0 on") == 2  # beside the figure on top, and the table


def test_the_figures_are_those_of_the_run(told):
    run = told[0].parent / "run"
    with (run / "metrics.csv").open() as file:
        best = max(float(row["val_miou"]) for row in csv.DictReader(file))
    assert load(run / "best.safetensors").card.scores["miou"] == pytest.approx(best)
    assert len(list((told[0].parent / "predictions").glob("*.png"))) >= 6


def test_the_trained_network_is_exported_quantised_and_timed(told):
    page, measured = told
    text = page.read_text()
    assert {path.suffix for path in measured.files} == {".xml", ".onnx"}
    for path, parity in measured.files.items():
        assert parity.equal >= 0.999
        assert str(parity) in text
        assert open_runtime(path).card.input_size == measured.size == (64, 128)
    assert open_runtime(measured.int8_path).precision == "int8"
    assert measured.int8.calibration == LITTLE.calibration
    assert measured.int8.max_drop == deployment.MAX_DROP
    assert f"{measured.int8.after.report.metrics.miou:.4f}" in text
    assert [row.timing.facts.runtime for row in measured.times] == [
        "torch-eager",
        "torch",
        "onnx",
        "openvino",
        "openvino",
    ]
    assert measured.times[0].ratio == 1
    for row in measured.times:
        assert row.timing.facts.threads == measured.threads
        assert row.timing.call.runs == 2
        assert f"<td>2</td><td>{row.rate:.1f}</td><td>{row.ratio:.2f}</td>" in text
        assert str(row.timing.facts.machine) in text
    assert processor_name() in text
    assert "not measured" not in text


def test_the_shipped_weights_were_run_on_a_picture_of_ours(told):
    out = told[0].parent
    ids = np.array(Image.open(out / "predictions" / "shipped" / "street_ids.png"))
    assert ids.shape == np.array(Image.open(out / "street.png")).shape[:2] == (360, 480)
    assert len(np.unique(ids)) > 3
    assert ids.max() < 11


def test_unseen_scenes_are_written_as_a_sheet_of_three_rows(told):
    height = report.COLUMN_PX // 2
    drawn = Image.open(told[0].parent / "unseen.png")
    gaps = (report.SHEET - 1) * report.GAP_PX
    assert drawn.size == (report.SHEET * report.COLUMN_PX + gaps, 3 * height + 2 * report.GAP_PX)


def test_what_is_not_installed_is_named_and_the_rest_is_measured(told, tmp_path, monkeypatch):
    bundle, val = told[0].parent / "run" / "best.safetensors", Scenes("val", 2, (64, 128))
    for package in ("openvino", "nncf", "onnx_ir"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(deployment, "time_models", lambda models, *rest: [told[1].times[0].timing for _ in models])
    said = []
    deployed = deploy(bundle, tmp_path, val, val, said.append, LITTLE)
    for why in deployed.files.values():
        assert why == Skipped(str(MissingExtra("onnx_ir", "export")))
        assert any(f"not measured: {why.reason}" in str(line) for line in said)
    assert deployed.int8 == Skipped(str(MissingExtra("nncf", "int8")))
    measured = [row.candidate.name for row in deployed.times if not isinstance(row.timing, Skipped)]
    assert measured == ["torch-eager", "torch"]
    assert deployed.times[4].timing == deployed.int8


def test_the_page_says_why_a_figure_was_not_taken(told):
    page, measured = told
    why = Skipped("nncf is <not> installed")
    times = [*measured.times[:4], dataclasses.replace(measured.times[4], timing=why, ratio=None)]
    deployed = dataclasses.replace(measured, int8=why, times=times)
    bundle = load(page.parent / "run" / "best.safetensors")
    splits = {split: Scenes(split, 6, (64, 128)) for split in ("train", "val", "test")}
    evaluated = evaluate(open_runtime(bundle), splits["val"], limit=2)
    trained = report.Trained(bundle, page.parent / "run", 2, 1.0, evaluated, evaluated)
    shipped = demo.Shipped(
        demo.SHIPPED, Predictor(demo.SHIPPED), page.parent / "street.png", page.parent / "predictions" / "shipped"
    )
    text = report.page(trained, splits, deployed, shipped, 1.0)
    assert text.count("not measured: nncf is &lt;not&gt; installed") == 2


def test_a_second_demo_keeps_the_first(tmp_path):
    (tmp_path / "run").mkdir()
    assert demo.unused(tmp_path / "run") == tmp_path / "run2"


def test_the_epochs_fit_the_time_given(monkeypatch):
    monkeypatch.setattr(demo, "step_seconds", lambda recipe, crop: 1.0)
    recipe = read(demo.RECIPE)
    assert demo.fitted_to(20.0, recipe, 10 * recipe.batch_size).epochs == 120
    assert demo.fitted_to(0.5, recipe, 1000 * recipe.batch_size).epochs == 2


@pytest.mark.parametrize("minutes", [0, -1, math.nan, math.inf, 1e9])
def test_a_time_that_is_none_is_named(tmp_path, minutes):
    with pytest.raises(KerbsegError, match=re.escape(f"minutes is {minutes:g}; training takes 0.25 to 1440")):
        demo.run(tmp_path, minutes)


def test_the_page_fits_a_phone(told):
    """A phone is narrower than the curve and the tables: they must not make the page wider."""
    text = told[0].read_text()
    assert re.search(r"svg \{[^}]*max-width: 100%; height: auto", text)
    assert text.count("<table>") == text.count('<div class="scroll"><table>') >= 4
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", text)


def test_truth_is_drawn_as_the_prediction_is_with_the_legend_beside_it(told):
    bundle = load(told[0].parent / "run" / "best.safetensors")
    near = range(-BORDER_PX, BORDER_PX + 1)  # borders of regions are drawn softly
    compared = 0
    for scene in report.scenes(bundle, Scenes("test", 8, (64, 128)), 8):
        right = (scene.truth == scene.prediction).all(2)
        inner = np.logical_and.reduce([np.roll(right, (down, across), (0, 1)) for down in near for across in near])
        inner[:BORDER_PX] = inner[-BORDER_PX:] = False
        inner[:, :BORDER_PX] = inner[:, -BORDER_PX:] = False
        assert (scene.truth_over[inner] == scene.over[inner]).all()
        compared += inner.sum()
    assert compared
    text = told[0].read_text()
    legend = text[text.index('<div class="legend">') : text.index('<div class="row head">')]
    assert legend.count('class="chip"') == len(bundle.card.labels)


def test_a_busy_machine_is_said_beside_its_times():
    assert report.busy(0.1, "the demo began") is None
    assert "load 3.0 on" in report.busy(3.04, "the demo began")
