"""Weights that come with kerbseg: usable by name, small, and as good as their card says."""

from pathlib import Path

import numpy as np
import pytest

import kerbseg
from kerbseg.bundle import locate, shipped
from kerbseg.cli import main
from kerbseg.core.errors import BundleError
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.runtime import open_runtime


@pytest.mark.parametrize("name", shipped())
def test_they_load_by_name_and_are_described(name):
    card = kerbseg.load(name).card
    assert name == f"{card.model}-{card.labels.name}"
    assert locate(name).stat().st_size < 8e6
    described = locate(name).with_suffix(".md").read_text()
    test = card.scores["test"]
    assert f"| **mIoU** | **{card.scores['miou']:.4f}** | **{test['miou']:.4f}** |" in described
    for label, iou in test["class_iou"].items():
        assert f"| {label} | {card.scores['class_iou'][label]:.4f} | {iou:.4f} |" in described
    parameters = sum(one.numel() for one in kerbseg.load(name).model.parameters())
    assert f"{parameters:,} parameters" in described
    assert "**Data licence.**" in described
    assert card.recipe


def test_a_picture_is_predicted_by_their_name(tmp_path):
    from PIL import Image

    street = open_dataset("scenes", "test", None)[0].image
    Image.fromarray(np.ascontiguousarray(street)).save(tmp_path / "street.png")
    main(["predict", "mininet_v2_cpu-camvid", str(tmp_path / "street.png"), "-o", str(tmp_path)])
    assert np.array(Image.open(tmp_path / "street_ids.png")).shape == street.shape[:2]


def test_the_repository_shows_them_at_its_top():
    top = Path(__file__).parents[1] / "weights"
    assert sorted(path.stem for path in top.glob("*.safetensors")) == shipped()


def test_a_name_that_is_none_gets_the_nearest():
    with pytest.raises(BundleError, match="did you mean 'mininet_v2_cpu-camvid'"):
        kerbseg.load("mininet_v2_cpu-camvids")


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch, camvid_bundle):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mininet_v2_cpu-camvid").write_bytes(camvid_bundle.read_bytes())
    assert locate("mininet_v2_cpu-camvid") == Path("mininet_v2_cpu-camvid")


@pytest.mark.camvid
@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith("camvid")])
def test_part_of_the_test_split_scores_as_when_they_were_made(name, camvid_data):
    report = evaluate(open_runtime(name), open_dataset("camvid", "test", camvid_data), limit=12)
    assert report.scores.miou > 0.35
    assert report.scores.pixel_accuracy > 0.75


@pytest.mark.slow
@pytest.mark.camvid
@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith("camvid")])
def test_the_whole_test_split_scores_as_the_card_says(name, camvid_data):
    report = evaluate(open_runtime(name), open_dataset("camvid", "test", camvid_data))
    assert report.scores.miou == pytest.approx(kerbseg.load(name).card.scores["test"]["miou"], abs=2e-4)
