"""Quality, semantics and motion of single frames."""

from itertools import pairwise

import numpy as np
import pytest

from kerbseg.data.scenes import Scenes
from kerbseg.keyframes.motion import MotionMeter, analyzed, likeness, thumbnail
from kerbseg.keyframes.quality import RECENT, Measures, QualityMeter, measure, quality_of
from kerbseg.keyframes.scores import Scorer
from kerbseg.keyframes.semantics import semantics_of

cv2 = pytest.importorskip("cv2")
SIZE = (180, 240)


@pytest.fixture(scope="module")
def street():
    return Scenes("val", size=SIZE)[1].image


def seen(picture, past):
    """The quality of a picture after some others."""
    meter = QualityMeter()
    for each in past:
        meter.add(measure(analyzed(each)))
    return meter.add(measure(analyzed(picture)))


def gained(picture, gain):
    return np.clip(picture.astype(np.float32) * gain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "worse",
    [
        lambda picture, n: cv2.blur(picture, (1 + 4 * n, 1)),
        lambda picture, n: gained(picture, 1 - 0.18 * n),
        lambda picture, n: gained(picture, 1 + 0.6 * n),
    ],
    ids=["blur", "dark", "over"],
)
def test_quality_falls_as_a_frame_gets_worse(street, worse):
    qualities = [seen(worse(street, n), [street] * 8) for n in range(5)]
    assert qualities[0] == 1
    assert all(one >= other for one, other in pairwise(qualities))
    assert qualities[-1] < 0.35


def test_a_gain_leaves_the_gradient_measure_and_a_gradient_alone_would_take_over_exposure_for_sharp(street):
    plain, bright = measure(analyzed(street)), measure(analyzed(gained(street, 2.5)))
    half = measure(analyzed(gained(street, 0.6)))
    assert half.gradient == pytest.approx(plain.gradient, rel=0.1)
    energy = [np.square(np.diff(analyzed(each).astype(float))).mean() for each in (street, gained(street, 1.3))]
    assert energy[1] > energy[0], "the obvious measure prefers the brighter picture"
    assert bright.bright > plain.bright + 0.1


def test_quality_is_the_weakest_link():
    usual = Measures(2.0, 0.8, 0.4, 0.01, 0.02)
    past = [usual] * 9
    for worse, expected in (
        (Measures(1.0, 0.8, 0.4, 0.01, 0.02), 0.5),
        (Measures(2.0, 0.2, 0.4, 0.01, 0.02), 0.25),
        (Measures(2.0, 0.8, 0.1, 0.01, 0.02), 0.25),
        (Measures(2.0, 0.8, 0.8, 0.01, 0.02), 0.5),
        (Measures(2.0, 0.8, 0.4, 0.01, 0.095), 0.5),
        (Measures(2.0, 0.8, 0.4, 0.16, 0.02), 0.0),
        (Measures(1.0, 0.2, 0.4, 0.01, 0.02), 0.25),
        (usual, 1.0),
    ):
        assert quality_of(worse, [*past, worse]) == pytest.approx(expected)


def test_a_dark_scene_is_not_held_against_its_frames(street):
    night = gained(street, 0.25)
    assert seen(night, [night] * 8) == 1


def test_quality_looks_back_so_far_and_no_farther():
    good, bad = Measures(2.0, 0.8, 0.4, 0.0, 0.0), Measures(1.0, 0.8, 0.4, 0.0, 0.0)
    meter = QualityMeter()
    meter.add(good)
    qualities = [meter.add(bad) for _ in range(RECENT + 1)]
    assert qualities[0] < 1
    assert qualities[-1] == 1


def test_sharpness_is_what_its_formula_says():
    """A second writing of it, in floating point; ours rounds the blurred picture."""
    gray = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    padded = np.pad(gray.astype(float), ((0, 0), (4, 4)), mode="reflect")
    blurred = np.stack([padded[:, i : i + 60] for i in range(9)]).mean(0)
    sharp, soft = abs(np.diff(gray.astype(float), axis=1)), abs(np.diff(blurred, axis=1))
    across = np.maximum(0, sharp - soft).sum() / sharp.sum()
    padded = np.pad(gray.astype(float), ((4, 4), (0, 0)), mode="reflect")
    blurred = np.stack([padded[i : i + 40] for i in range(9)]).mean(0)
    sharp, soft = abs(np.diff(gray.astype(float), axis=0)), abs(np.diff(blurred, axis=0))
    down = np.maximum(0, sharp - soft).sum() / sharp.sum()
    assert measure(gray).sharpness == pytest.approx(min(across, down), abs=2e-3)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_pictures_give_numbers(value):
    scorer = Scorer([1])
    for i in range(5):
        scores = scorer.add(np.full((60, 80, 3), value, np.uint8), np.zeros((60, 80), np.uint8), i)
        assert np.isfinite([scores.quality, scores.sem, scores.motion]).all()
        assert not scores.cut


# ---- semantics


def ids_with(*boxes, size=(100, 120), value=3):
    ids = np.zeros(size, np.uint8)
    for left, top, right, bottom in boxes:
        ids[top:bottom, left:right] = value
    return ids


def test_whole_and_part_are_told_apart_by_the_border():
    shown = semantics_of(ids_with((10, 10, 30, 30), (110, 50, 120, 60)), [3])
    assert shown.whole == pytest.approx(400 / 12000)
    assert shown.part == pytest.approx(100 / 12000)
    assert shown.value == pytest.approx(300 / 12000)
    assert shown.boxes == ((10, 10, 30, 30),)


@pytest.mark.parametrize(
    ("box", "whole"),
    [((2, 2, 12, 12), True), ((1, 2, 12, 12), False), ((2, 1, 12, 12), False), ((100, 80, 118, 98), True),
     ((100, 80, 119, 98), False), ((100, 80, 118, 99), False)],
)  # fmt: skip
def test_two_pixels_part_a_region_from_the_border(box, whole):
    shown = semantics_of(ids_with(box), [3])
    assert (shown.whole > 0) == whole
    assert (shown.part > 0) == (not whole)


def test_specks_do_not_count_and_regions_join_at_corners():
    assert semantics_of(ids_with((10, 10, 14, 14)), [3]).whole == 0
    joined = semantics_of(ids_with((10, 10, 14, 14), (14, 14, 18, 18)), [3])
    assert joined.whole == pytest.approx(32 / 12000)
    assert len(joined.boxes) == 1


def test_several_classes_are_one_target():
    ids = ids_with((10, 10, 20, 20)) | ids_with((20, 10, 30, 20), value=4)
    assert semantics_of(ids, [3, 4]).boxes == ((10, 10, 30, 20),)
    assert semantics_of(ids, []).whole == 0


def test_by_class_one_that_is_cut_off_does_not_cut_off_another():
    ids = ids_with((90, 40, 120, 70), value=4) | ids_with((70, 40, 90, 60)) | ids_with((10, 10, 15, 15))
    assert semantics_of(ids, [3, 4]).whole == pytest.approx(25 / 12000)
    apart = semantics_of(ids, [3, 4, 3], by_class=True)
    assert apart.whole == pytest.approx((25 + 400) / 12000)
    assert apart.part == pytest.approx(900 / 12000)
    assert apart.boxes == ((70, 40, 90, 60), (10, 10, 15, 15))
    assert semantics_of(ids, [3], by_class=True) == semantics_of(ids, [3])
    assert semantics_of(ids, [], by_class=True).whole == 0


def test_frames_are_scored_class_by_class():
    ids = ids_with((90, 40, 120, 70), value=4) | ids_with((70, 40, 90, 60))
    scores = Scorer([3, 4]).add(np.zeros((*ids.shape, 3), np.uint8), ids, 0)
    assert (scores.semantics.whole, scores.semantics.part) == pytest.approx((400 / 12000, 900 / 12000))


def test_void_that_reaches_in_from_the_border_is_the_border():
    ids = ids_with((30, 30, 60, 60))
    ids[:28] = 255
    assert semantics_of(ids, [3]).whole > 0
    ids[:30] = 255
    assert semantics_of(ids, [3]).whole == 0
    inside = ids_with((30, 30, 60, 60))
    inside[25:30, 30:60] = 255  # void within the picture is no border
    assert semantics_of(inside, [3]).whole > 0


def test_probability_weighs_pixels():
    ids = ids_with((10, 10, 30, 30))
    assert semantics_of(ids, [3], np.full(ids.shape, 0.5, np.float32)).whole == pytest.approx(200 / 12000)


# ---- motion


def moved(street, pixels):
    return np.roll(street, -pixels, axis=1)


def test_motion_is_counted_in_pixels_of_a_picture_480_wide(street):
    meter = MotionMeter()
    for picture in (street, moved(street, 3)):
        gray = analyzed(picture)
        motion = meter.add(gray, thumbnail(gray))
    assert motion.pixels == pytest.approx(6, rel=0.2)
    large = cv2.resize(street, (960, 720), interpolation=cv2.INTER_CUBIC)
    meter = MotionMeter()
    for picture in (large, moved(large, 12)):
        gray = analyzed(picture)
        assert gray.shape[1] == 480
        motion = meter.add(gray, thumbnail(gray))
    assert motion.pixels == pytest.approx(6, rel=0.2)


def test_a_cut_is_another_picture_not_another_light(street):
    other = 255 - street[::-1]
    for second, cut in ((other, True), (gained(street, 2.2), False), (street[:, :200], True)):
        meter = MotionMeter()
        motions = [meter.add(analyzed(each), thumbnail(analyzed(each))) for each in (street, second)]
        assert motions[1].cut == cut


def test_thumbnails_are_alike_under_another_light(street):
    assert likeness(thumbnail(analyzed(street)), thumbnail(analyzed(gained(street, 0.5)))) > 0.95
    assert likeness(thumbnail(analyzed(street)), thumbnail(analyzed(255 - street))) < 0


def test_boxes_lie_in_the_picture_itself():
    ids = ids_with((300, 200, 500, 400), size=(720, 960))
    scores = Scorer([3]).add(np.zeros((720, 960, 3), np.uint8), ids, 0)
    assert scores.semantics.boxes == ((300, 200, 500, 400),)
    assert scores.semantics.whole == pytest.approx(200 * 200 / 720 / 960, rel=0.01)
