"""The demo tells the whole story, and its figures are those of its run."""

import csv
import re

import pytest

from kerbseg.apps import demo
from kerbseg.bundle import load
from kerbseg.core.errors import UserError
from kerbseg.train.recipe import read


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A demo of two tiny epochs."""
    out = tmp_path_factory.mktemp("demo")
    tiny = ("epochs=2", "data.size=[64, 128]", "data.limit=8", "augment.zooms=[]", "validate_every=1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "fitted_to", lambda minutes, recipe, pictures: read(demo.RECIPE, tiny))
        return demo.run(out, 1.0)


def test_the_report_needs_no_other_file_and_shows_pictures_curves_and_classes(told):
    page = told.read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#|https://)', page)
    assert page.count("data:image/png;base64,") >= 3 * demo.SHOWN
    assert "<svg" in page
    for name in ("road", "sidewalk", "traffic light", "bicycle"):
        assert name in page


def test_the_figures_are_those_of_the_run(told):
    run = told.parent / "run"
    with (run / "metrics.csv").open() as file:
        best = max(float(row["val_miou"]) for row in csv.DictReader(file))
    assert load(run / "best.safetensors").card.scores["miou"] == pytest.approx(best)
    assert (told.parent / "predictions").is_dir()


def test_a_second_demo_keeps_the_first(tmp_path):
    (tmp_path / "run").mkdir()
    assert demo.unused(tmp_path / "run") == tmp_path / "run2"


def test_the_epochs_fit_the_time_given(monkeypatch):
    monkeypatch.setattr(demo, "step_seconds", lambda recipe, crop: 1.0)
    recipe = read(demo.RECIPE)
    assert demo.fitted_to(20.0, recipe, 10 * recipe.batch_size).epochs == 120
    assert demo.fitted_to(0.5, recipe, 1000 * recipe.batch_size).epochs == 2


def test_too_little_time_is_named(tmp_path):
    with pytest.raises(UserError, match="minutes is 0"):
        demo.run(tmp_path, 0)
