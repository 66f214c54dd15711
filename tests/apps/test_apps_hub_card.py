"""A model's page on a hub: front matter that a hub reads, classes with colors, licences, and nothing made up."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kerbseg.apps.hub_card import Publication, readme
from kerbseg.apps.info import CardFacts
from kerbseg.bundle import read_card
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.exported_card import LastStageCard

HOW = {"data": "camvid", "split": "val", "label_size": [360, 480], "tta": "none", "runtime": "torch"}
SCORES = {
    "miou": 0.71234,
    "pixel_accuracy": 0.95,
    "class_iou": {"sky": 0.91234},
    "protocol": HOW,
    "test": {"miou": 0.6, "protocol": HOW | {"split": "test"}},
}
TIMED = {
    "float32": {"miou": 0.7, "size_bytes": 2_000_000, "latency_ms": {"median": 20.0}},
    "int8": {"miou": 0.69, "size_bytes": 1_000_000, "latency_ms": {"median": 9.5}},
    "protocol": {"threads": 2, "processor": "a processor", "calibration_pictures": 300},
}
HERE = Publication("streets", "hf://me/streets")


@pytest.fixture
def card(camvid_bundle):
    return replace(read_card(camvid_bundle), scores=SCORES, recipe={"data": {"name": "camvid"}, "epochs": 9})


def page(card, about: Publication = HERE) -> str:
    return readme(CardFacts(Path("x"), card, "float32", 1234, 5_000_000), about)


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_a_hub_sorts_it_by_its_front_matter(card):
    matter = front(page(card))
    assert (matter["library_name"], matter["pipeline_tag"]) == ("kerbseg", "image-segmentation")
    assert {"semantic-segmentation", "mininet_v2_cpu", "camvid"} <= set(matter["tags"])
    assert matter["metrics"] == ["mean_iou", "accuracy"]
    [model] = matter["model-index"]
    val, test = model["results"]
    assert (val["dataset"]["type"], val["dataset"]["split"]) == ("camvid", "val")
    assert "Labels at 360x480 (HxW), no test-time augmentation, torch" in val["dataset"]["args"]
    assert {each["type"]: each["value"] for each in val["metrics"]} == {"mean_iou": 0.7123, "accuracy": 0.95}
    assert {each["type"]: each["value"] for each in test["metrics"]} == {"mean_iou": 0.6}


def test_its_front_matter_is_one_that_the_hub_client_reads(card):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    data = hub.ModelCard(page(card)).data
    assert data.pipeline_tag == "image-segmentation"
    assert [each.metric_value for each in data.eval_results] == [0.7123, 0.95, 0.6]


@pytest.mark.parametrize(
    "line",
    [
        "# streets",
        "| 3 | road | `#80498c` | `#804080` |",
        "| sky | 0.9123 | not measured |",
        "kerbseg predict hf://me/streets street.jpg -o out",
        'prediction = kerbseg.Predictor("hf://me/streets")("street.jpg")',
        "With kerbseg installed with its extra `hub`:",
        "kerbseg evaluate hf://me/streets --data camvid --data-root DATA/camvid --split val --html streets.html",
        "Not measured. `kerbseg benchmark hf://me/streets` times it on your machine.",
        "| weights | not said; ask who published them |",
        "| data | see [Data and its terms](#data-and-its-terms) |",
    ],
)
def test_the_page_says_it(card, line):
    assert f"\n{line}\n" in page(card)


def test_times_stand_with_their_protocol(card):
    text = page(replace(card, scores=SCORES | {"int8": TIMED}))
    assert "| ms a picture | 20.0 | 9.5 |" in text
    assert "OpenVINO, 2 threads, a processor" in text
    assert "Not measured" not in text


def test_an_exported_file_is_not_exported_again(card):
    exported = LastStageCard((32, 64), False, "float32")
    text = readme(CardFacts(Path("x.onnx"), card, "float32", 1, 1, last_stage=exported), replace(HERE, typed="x.onnx"))
    assert "kerbseg predict x.onnx street.jpg" in text
    assert "kerbseg export" in page(card)
    assert "kerbseg export" not in text


def test_without_figures_nothing_is_claimed(card):
    text = page(replace(card, scores={}, recipe={}, source="random weights"))
    assert "model-index" not in front(text)
    assert "metrics" not in front(text)
    assert "mIoU" not in text
    assert "| data | not said in the file |" in text


@pytest.mark.parametrize(
    ("about", "license", "weights"),
    [
        (HERE, "unknown", "not said; ask who published them"),
        (replace(HERE, license="mit"), "mit", "mit, as who published them says"),
        (replace(HERE, ours=True), "other", "The weights come with kerbseg and are offered under Apache-2.0 as far as"),
    ],
)
def test_a_licence_is_what_somebody_says(card, about, license, weights):
    text = page(card, about)
    assert front(text)["license"] == license
    assert f"| weights | {weights}" in text


def test_weights_of_authors_keep_their_authors_terms(card):
    text = page(replace(card, recipe={}, source="imported from erfnet.pth (sha256 ab); CC BY-NC 4.0"))
    assert "| weights | not said; ask who published them. They were imported from erfnet.pth (sha256 ab); CC" in text


@pytest.mark.parametrize(
    ("data", "told"), [("cityscapes", "non-commercial use"), ("folder", "the terms of folder are not said here")]
)
def test_terms_of_other_data(card, data, told):
    assert told in page(replace(card, recipe={"data": {"name": data}}))


@pytest.mark.parametrize("license", ["Apache 2.0", "", "x\ny: z", "-"])
def test_a_licence_with_another_form_is_refused(card, license):
    with pytest.raises(KerbsegError, match=r"write it as apache-2\.0"):
        page(card, replace(HERE, license=license))


def test_names_of_classes_make_no_markup(card):
    labels = LabelSet("<b>: x", ("a|b", "<script>", "---"), ((0, 0, 0), (1, 2, 3), (4, 5, 6)))
    text = page(replace(card, labels=labels, outputs=3))
    assert "<script>" not in text
    assert r"| 0 | a\|b |" in text
    assert front(text)["tags"][-1] == "<b>: x"


def test_card_writes_it_for_shipped_weights(tmp_path, capsys):
    main(["card", "kerbnet_s-camvid", "-o", str(tmp_path / "README.md"), "--picture", "overlay.png"])
    text = (tmp_path / "README.md").read_text()
    assert front(text)["license_name"] == "apache-2.0-and-terms-of-the-data"
    assert "\n# kerbnet_s-camvid\n" in text
    assert "kerbseg predict kerbnet_s-camvid street.jpg" in text
    assert "With kerbseg installed:" in text
    assert "\n![overlay.png](overlay.png)\n" in text
    assert f"model card: {tmp_path / 'README.md'}" in capsys.readouterr().out


def test_card_takes_a_run_and_a_repository(tmp_path, camvid_bundle):
    run = tmp_path / "my_run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(camvid_bundle.read_bytes())
    main(["card", str(run), "-o", str(tmp_path / "a.md")])
    main(["card", str(run), "-o", str(tmp_path / "b.md"), "--repository", "me/streets"])
    assert "\n# my_run\n" in (tmp_path / "a.md").read_text()
    assert "kerbseg predict hf://me/streets street.jpg" in (tmp_path / "b.md").read_text()
