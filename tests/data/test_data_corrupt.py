"""Corruptions are the benchmark's kinds at its strengths, and follow from a picture's name and the kind alone."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import kerbseg.data.corrupt as room
from golden_rule import GOLDEN
from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.data.corrupt import GROUPS, LEFT_OUT, choices, corrupt_picture, kinds_of
from kerbseg.data.corruption_kinds import CORRUPTIONS

MEASURED = json.loads((GOLDEN / "corruptions.json").read_text())
UNSEEDED = {  # mean change by that package at each severity, over 20 draws: it has no seed for them
    "impulse_noise": (3.80, 7.59, 11.55, 21.65, 34.43),
    "glass_blur": (11.74, 12.66, 22.68, 22.41, 26.57),
}


def drawn(height: int = 96, width: int = 128) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 2) % 256, (y * 3 + x) % 256, ((x // 16 + y // 16) % 2) * 200 + 20], 2).astype(np.uint8)


def change(kind: str, severity: int, name: str = "a") -> float:
    picture = drawn()
    return float(np.abs(corrupt_picture(picture, kind, severity, name).astype(int) - picture).mean())


def test_every_kind_was_measured():
    assert MEASURED.keys() | UNSEEDED.keys() == CORRUPTIONS.keys()
    assert not CORRUPTIONS.keys() & LEFT_OUT.keys()


@pytest.mark.parametrize("kind", MEASURED)
def test_pixels_are_those_of_the_package_from_the_same_draws(kind, monkeypatch):
    monkeypatch.setattr(room, "_draws", lambda kind, name: np.random.RandomState(7))
    at = np.random.RandomState(1).randint(0, 96 * 128, 16)
    for severity, measured in enumerate(MEASURED[kind], 1):
        changed = corrupt_picture(drawn(), kind, severity, "")
        assert np.abs(changed.reshape(-1, 3)[at].astype(int) - measured["pixels"]).max() <= 1, severity
        assert changed.mean() == pytest.approx(measured["mean"], abs=0.8), "rounding down takes at most 1"


@pytest.mark.parametrize("kind", UNSEEDED)
def test_what_the_package_cannot_seed_changes_as_much(kind):
    for severity, expected in enumerate(UNSEEDED[kind], 1):
        assert np.mean([change(kind, severity, str(i)) for i in range(5)]) == pytest.approx(expected, rel=0.05)


def test_impulses_are_black_or_white():
    picture = np.full((50, 60, 3), 99, np.uint8)
    changed = corrupt_picture(picture, "impulse_noise", 5, "a")
    assert set(np.unique(changed)) == {0, 99, 255}
    assert (changed != 99).mean() == pytest.approx(0.27, abs=0.02)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_draws_follow_from_name_and_kind_alone(kind):
    picture = drawn(40, 50)
    before = picture.copy()
    first = corrupt_picture(picture, kind, 3, "drive_1")
    assert first.dtype == np.uint8
    assert first.shape == picture.shape
    assert (picture == before).all(), "the picture itself is left alone"
    assert (first != picture).any()
    np.random.seed(5)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    corrupt_picture(picture, kind, 3, "drive_2")
    assert (corrupt_picture(picture, kind, 3, "drive_1") == first).all()
    assert (np.random.get_state()[1] == state).all(), "nobody else's draws are touched"  # noqa: NPY002
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda i: corrupt_picture(picture, kind, 3, f"drive_{i % 2}"), range(8)))
    assert all((each == first).all() for each in others[1::2])


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "snow", "fog", "spatter", "motion_blur"])
def test_another_name_is_another_draw(kind):
    assert (corrupt_picture(drawn(), kind, 3, "a") != corrupt_picture(drawn(), kind, 3, "b")).any()


def test_two_kinds_of_one_picture_draw_apart():
    gray = np.full((40, 50, 3), 128, np.uint8)
    noise, speckle = (corrupt_picture(gray, kind, 3, "a") > 128 for kind in ("gaussian_noise", "speckle_noise"))
    assert (noise == speckle).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (33, 70)])
@pytest.mark.parametrize("value", [0, 255])
def test_pictures_of_any_size_and_of_one_color(size, value):
    picture = np.full((*size, 3), value, np.uint8)
    for kind in CORRUPTIONS:
        for severity in (1, 5):
            assert corrupt_picture(picture, kind, severity, "a").shape == picture.shape


def test_a_choice_is_kinds_and_groups_in_the_order_of_the_table():
    assert kinds_of("all") == tuple(CORRUPTIONS)
    assert kinds_of("fog, noise,fog") == ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "fog")
    assert kinds_of(["jpeg_compression", "brightness"]) == ("brightness", "jpeg_compression")
    assert len(kinds_of("zoo")) == 8
    assert set(kinds_of("noise,blur,weather,digital")) == set(CORRUPTIONS)
    assert choices() == [*GROUPS, *CORRUPTIONS]


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ("noize", r"unknown corruption 'noize'; did you mean 'noise'\?"),
        ("fog,jpeg", r"unknown corruption 'jpeg'; did you mean 'jpeg_compression'\?"),
        ("qqq", "unknown corruption 'qqq'; choose from: all, zoo, noise"),
        ("fog,", "unknown corruption ''"),
        ("", "unknown corruption ''"),
        ([], "no corruption is named; choose from: all"),
        ("frost", "left out: it needs photographs"),
        ("elastic_transform", "left out: it moves pixels away from their labels"),
    ],
)
def test_what_is_no_corruption_is_named(choice, says):
    with pytest.raises(KerbsegError, match=says):
        kinds_of(choice)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"opencv-python-headless is not installed; .*\[robust\]"):
        corrupt_picture(drawn(), "defocus_blur", 3, "a")
