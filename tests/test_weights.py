"""Weights that come with kerbseg: usable by name, small, and as good as their card says."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import kerbseg
from kerbseg.bundle import digest, locate, shipped
from kerbseg.cli import main
from kerbseg.core.errors import BundleError
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.runtime import open_runtime

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages():
    """The script that makes README's table and the cards' pages."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("zoo_pages")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def networks(pages):
    return pages.read(ROOT / pages.RESULTS)["networks"]


@pytest.mark.parametrize("name", shipped())
def test_they_load_by_name_and_are_described(name, pages):
    card = kerbseg.load(name).card
    assert name == f"{card.model}-{card.labels.name}"
    described = locate(name).with_suffix(".md").read_text()
    assert described == pages.card_page(ROOT, name), "run: python benchmarks/zoo_pages.py --no-drawings"
    kinds = [card.scores, *([card.scores["test"]] if "test" in card.scores else [])]
    assert " | ".join(["| **mIoU**", *(f"**{kind['miou']:.4f}**" for kind in kinds)]) in described
    assert "**Data licence.** CamVid" in described
    assert card.recipe


@pytest.mark.parametrize("name", shipped())
def test_results_and_card_tell_the_same(name, networks):
    entry, card = networks[name], kerbseg.load(name).card
    weights = digest(kerbseg.load(name).model.state_dict())
    measured = {key: value for key, value in entry.items() if isinstance(value, dict)}
    assert {value["weights"] for value in measured.values()} == {weights}
    assert entry["val"]["miou"] == card.scores["miou"]
    assert entry["size_bytes"] == locate(name).stat().st_size
    for key in measured.keys() & card.scores.keys() - {"int8"}:
        known = {each: value for each, value in entry[key].items() if each != "weights"}
        assert {each: card.scores[key][each] for each in known} == known


def test_readme_and_zoo_page_have_the_tables_of_the_results(pages, networks):
    assert set(networks) == set(shipped())
    assert pages.readme_part(networks) in (ROOT / "README.md").read_text()
    assert pages.zoo_part(networks) in (ROOT / "docs" / "zoo.md").read_text()
    assert pages.navigation((ROOT / "mkdocs.yml").read_text(), shipped()) == (ROOT / "mkdocs.yml").read_text()


def test_the_first_table_of_the_readme_is_the_zoo():
    first = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| "))
    assert first.split(" | ")[1:3] == ["mIoU", "int8, ms"]


def test_the_package_stays_small_enough_to_be_downloaded():
    """A wheel is no larger than what is in it; weights do not shrink by being packed."""
    package = Path(kerbseg.__file__).parent
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert 1e6 < sum(path.stat().st_size for path in files) < 60e6


def test_a_picture_is_predicted_by_their_name(tmp_path):
    from PIL import Image

    street = open_dataset("scenes", "test", None)[0].image
    Image.fromarray(np.ascontiguousarray(street)).save(tmp_path / "street.png")
    main(["predict", "mininet_v2_cpu-camvid", str(tmp_path / "street.png"), "-o", str(tmp_path)])
    assert np.array(Image.open(tmp_path / "street_ids.png")).shape == street.shape[:2]


def test_the_repository_shows_them_at_its_top():
    top = ROOT / "weights"
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
    assert report.metrics.miou > 0.35
    assert report.metrics.pixel_accuracy > 0.75


@pytest.mark.slow
@pytest.mark.camvid
@pytest.mark.parametrize("name", [name for name in shipped() if name.endswith("camvid")])
def test_the_whole_test_split_scores_as_the_card_says(name, camvid_data):
    report = evaluate(open_runtime(name), open_dataset("camvid", "test", camvid_data))
    assert report.metrics.miou == pytest.approx(kerbseg.load(name).card.scores["test"]["miou"], abs=2e-4)
