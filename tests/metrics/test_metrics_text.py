"""Metrics of text against counts by hand, pixel by pixel."""

import numpy as np
import pytest

from kerbseg.core.types import VOID
from kerbseg.metrics.text import (
    BINS,
    PresenceCounter,
    TextFigures,
    ThresholdCurve,
    WordCounter,
    shows_text,
    text_confusion,
)

SIZE = (40, 60)


@pytest.fixture
def truth():
    random = np.random.default_rng(0)
    mask = (random.random(SIZE) < 0.02).astype(np.uint8)
    mask[random.random(SIZE) < 0.1] = VOID
    return mask


def figures(ids, truth):
    return TextFigures.of(text_confusion(ids, truth))


def test_a_network_that_never_says_text(truth):
    nothing = figures(np.zeros(SIZE, np.uint8), truth)
    share = (truth == 1).sum() / (truth != VOID).sum()
    assert (nothing.iou, nothing.recall, nothing.precision) == (0, 0, None)
    assert nothing.miou == pytest.approx((1 - share) / 2)
    assert 0.485 < nothing.miou < 0.495  # what no network of table VIII can have had


def test_a_network_that_says_text_everywhere(truth):
    everywhere = figures(np.ones(SIZE, np.uint8), truth)
    share = (truth == 1).sum() / (truth != VOID).sum()
    assert everywhere.iou == pytest.approx(share)
    assert (everywhere.recall, everywhere.precision) == (1, everywhere.iou)


def test_void_pixels_do_not_count(truth):
    ids = np.where(truth == VOID, 1, truth).astype(np.uint8)
    assert figures(ids, truth) == TextFigures(1, 1, 1, 1)
    assert figures(ids, np.full(SIZE, VOID, np.uint8)) == TextFigures(None, None, None, None)


def test_iou_at_every_threshold_equals_that_of_the_thresholded_mask(truth):
    random = np.random.default_rng(1)
    parts = [(random.random(SIZE).astype(np.float32), truth), (random.random(SIZE).astype(np.float32), truth.T.copy())]
    parts[1] = (parts[1][0].T.copy(), parts[1][1])
    curve = ThresholdCurve()
    for probability, mask in parts:
        curve.update(probability, mask)
    for place in (0, 1, 400, 999):
        said = [(np.floor(probability.astype(np.float64) * BINS) >= place) for probability, _ in parts]
        both = sum((text_confusion(s.astype(np.uint8), mask) for s, (_, mask) in zip(said, parts, strict=True)))
        assert curve.iou()[place] == pytest.approx(TextFigures.of(both).iou)
        assert (curve.confusion(place / BINS) == both).all()


def test_the_best_threshold_lies_between_text_and_background(truth):
    probability = np.where(truth == 1, 0.3, 0.1).astype(np.float32)
    curve = ThresholdCurve()
    curve.update(probability, truth)
    threshold, iou = curve.best()
    assert iou == 1
    assert 0.15 < threshold < 0.25  # the middle of those that are equally good
    nothing = ThresholdCurve()
    nothing.update(probability, np.zeros(SIZE, np.uint8))
    assert nothing.best() is None


def test_a_picture_shows_text_where_twenty_pixels_touch():
    text = np.zeros(SIZE, bool)
    text[:4, :5] = True
    text[3, 4] = False
    assert not shows_text(text)
    text[4, 4] = True  # touches a corner of the others
    assert text.sum() == 20
    assert shows_text(text)
    scattered = np.zeros(SIZE, bool)
    scattered[::2, ::2] = True
    assert not shows_text(scattered)


def test_presence_counts_pictures_and_leaves_void_out():
    text, nothing = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    text[:5, :5] = 1
    unreadable = np.where(text == 1, VOID, 0).astype(np.uint8)
    counter = PresenceCounter()
    for ids, truth in ((text, text), (nothing, text), (text, nothing), (text, unreadable), (text, text)):
        counter.update(ids, truth)
    counter.update(text, np.full(SIZE, VOID, np.uint8))
    presence = counter.compute()
    assert (presence.with_text, presence.without_text) == (3, 2)
    assert (presence.precision, presence.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_words_are_recognized_by_half_of_their_pixels():
    def word(top, height, width=10):
        pixels = np.zeros(SIZE, bool)
        pixels[top : top + height, :width] = True
        return pixels, float(height)

    ids = np.zeros(SIZE, np.uint8)
    ids[:4, :5] = 1  # half of the first word
    ids[10:20, :4] = 1  # less than half of the second
    counter = WordCounter()
    counter.update(ids, [word(0, 4), word(10, 10), word(0, 0), word(20, 16)])
    words = {name: (each.words, each.recall) for name, each in counter.compute().items()}
    assert words == {"< 8 px": (1, 1), "8-16 px": (1, 0), "16-32 px": (1, 0), ">= 32 px": (0, None)}
