"""Model cards: every figure that a file holds, what was not measured said so, and terms of the data."""

from dataclasses import replace
from pathlib import Path

import pytest

from kerbseg.apps.info import CardFacts, figures
from kerbseg.apps.model_card import markdown, render_section, sections
from kerbseg.bundle import read_card, save
from kerbseg.cli import main

HOW = {"data": "camvid", "split": "test", "label_size": [360, 480], "tta": "none", "runtime": "torch"}
SCORES = {
    "miou": 0.7,
    "class_iou": {"sky": 0.91234},
    "pixel_accuracy": 0.95,
    "epoch": 7,
    "protocol": HOW | {"split": "val"},
    "test": {
        "miou": 0.6,
        "class_iou": {"sky": 0.81234},
        "images": 233,
        "protocol": HOW,
        "calibration": {"ece": 0.004, "adaptive_ece": 0.005, "brier": 0.2, "uncalibrated": {"ece": 0.031}},
    },
    "test_flip_scales": {"miou": 0.62, "images": 233, "protocol": HOW | {"tta": "flip_scales"}},
    "corruptions": {
        "severity": 3,
        "package": "a program 1.0",
        "clean": 0.6,
        "miou": {"gaussian_noise": 0.3, "fog": 0.45},
        "kept": 0.625,
        "images": 39,
        "protocol": HOW,
    },
    "calibration": {
        "temperature": 1.28,
        "before": {"ece": 0.03, "adaptive_ece": 0.03, "brier": 0.21},
        "after": {"ece": 0.002, "adaptive_ece": 0.003, "brier": 0.2},
        "protocol": {"split": "val"},
    },
    "int8": {
        "float32": {"miou": 0.7, "size_bytes": 2_000_000, "latency_ms": {"median": 20.0}},
        "int8": {"miou": 0.698, "size_bytes": 1_000_000},
        "protocol": {"threads": 2, "processor": "a processor", "calibration_pictures": 300},
    },
    "float16": {"miou_float32": 0.70001, "miou_float16": 0.7, "used": True},
}


@pytest.fixture
def card(camvid_bundle):
    return replace(read_card(camvid_bundle), scores=SCORES, recipe={"data": {"name": "camvid"}, "epochs": 9})


def page(card, **pictures: str) -> str:
    return markdown(CardFacts(Path("x"), card, "float32", 1234, 5_000_000, half=True), "x-camvid", pictures)


@pytest.mark.parametrize(
    "line",
    [
        "| network | `mininet_v2_cpu` (mininet), 1,234 parameters |",
        "| file | 5.0 MB, kernels in float16 |",
        "| epoch | 7 of 9 |",
        "| camvid test | as it is | 233 | 0.6000 | not measured |",
        "| camvid test | flip and three scales, averaged | 233 | 0.6200 | not measured |",
        "| sky | 0.9123 | 0.8123 |",
        "| **mIoU** | **0.7000** | **0.6000** |",
        "| gaussian noise | 0.3000 | 50 % |",
        "| **mean of what is kept** |  | **62 %** |",
        "| ECE | 0.0300 | 0.0020 | 0.0310 | 0.0040 |",
        "| adaptive ECE | 0.0300 | 0.0030 | not measured | 0.0050 |",
        "Temperature 1.28, fitted on val; exported models take it along.",
        "| MB | 2.00 | 1.00 |",
        "| ms a picture | 20.0 | not measured |",
        "kerbseg evaluate x-camvid --data camvid --data-root DATA/camvid --split val --html x-camvid.html",
        "![Loss and mIoU on val, by epoch](curve.png)",
    ],
)
def test_the_page_has_what_the_card_knows(card, line):
    assert f"\n{line}\n" in page(card, curve="curve.png")


@pytest.mark.parametrize(
    ("timed", "words"),
    [
        ("uint8 picture to ids, batch 1", "OpenVINO, 2 threads, a processor; calibrated on 300 pictures of train."),
        (
            {"threads": 4, "processor": "another", "instructions": ["avx2"]},
            "OpenVINO, 4 threads, another without VNNI; calibrated on 300 pictures of train.",
        ),
        (
            {"threads": 4, "processor": "another", "instructions": ["avx512_vnni"]},
            "OpenVINO, 4 threads, another with VNNI; calibrated on 300 pictures of train.",
        ),
    ],
)
def test_milliseconds_have_the_protocol_of_the_run_that_timed_them(card, timed, words):
    int8 = SCORES["int8"] | {"protocol": SCORES["int8"]["protocol"] | {"latency": timed}}
    assert f"\n{words}\n" in page(replace(card, scores=SCORES | {"int8": int8}))


def test_terms_and_limits_are_those_of_the_data(card):
    assert "**Data licence.** CamVid" in page(card)
    assert "Apache-2.0" not in page(card), "weights that are not kerbseg's own"
    assert "Apache-2.0" in markdown(CardFacts(Path("x"), card, "float32", 1, 1), "mininet_v2_cpu-camvid")
    own = replace(card, recipe={"data": {"name": "folder"}, "epochs": 9})
    assert "CamVid" not in page(own)
    assert "--data folder" in page(own)


def test_what_a_card_lacks_has_no_section(card):
    bare = replace(card, scores={}, recipe={})
    assert sections(bare) == []
    assert "## " not in page(bare)


@pytest.mark.parametrize(
    "scores", [{"test": 3}, {"corruptions": {"miou": 2}}, {"int8": {"float32": []}}, {"miou": "x"}]
)
def test_scores_of_another_kind_are_left_out(card, scores):
    page(replace(card, scores=scores))


def test_only_the_networks_own_figures_are_its_scores(card):
    assert [(each.split, each.miou) for each in figures(card)] == [("val", 0.7), ("test", 0.6)]


def test_the_terminal_shows_the_same_tables(card, capsys, tmp_path, camvid_bundle):
    from kerbseg.bundle import Bundle, load

    path = tmp_path / "a.safetensors"
    save(Bundle(load(camvid_bundle).model, card), path)
    main(["info", str(path), "--card", str(tmp_path / "card.md")])
    printed = capsys.readouterr().out
    for section in sections(card):
        assert section.title in printed
        assert len(render_section(section).columns) == len(section.head)
    assert "gaussian noise" in printed
    assert "**" not in printed
    assert (tmp_path / "card.md").read_text().startswith("# a\n")
