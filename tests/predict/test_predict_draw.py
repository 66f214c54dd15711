"""Pictures of predictions hold the class colors, and a legend of what is there."""

import numpy as np
import pytest
import torch

from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.metrics import compute_metrics
from kerbseg.predict import Prediction
from kerbseg.predict.draw import INK, PAPER, blend_overlay, colorize, confusion_picture

LABELS = label_set("camvid")


def halves(height=40, width=300):
    ids = np.zeros((height, width), np.uint8)
    ids[:, width // 2 :] = 3
    return ids


def test_each_pixel_has_its_class_color_and_void_none():
    ids = np.array([[0, 3, VOID]], np.uint8)
    np.testing.assert_array_equal(colorize(ids, LABELS)[0], [LABELS.colors[0], LABELS.colors[3], (0, 0, 0)])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_an_overlay_mixes_picture_and_color_and_darkens_borders(alpha):
    ids = halves()
    drawn = blend_overlay(np.full((*ids.shape, 3), 100, np.uint8), ids, LABELS, alpha).astype(int)
    left, right = (np.array(LABELS.colors[i]) * alpha + 100 * (1 - alpha) for i in (0, 3))
    np.testing.assert_allclose(drawn[5, 10], left, atol=2)
    np.testing.assert_allclose(drawn[5, -10], right, atol=2)
    np.testing.assert_allclose(drawn[5, ids.shape[1] // 2 - 1], left / 2, atol=2)


def test_a_border_is_where_the_class_to_the_right_or_below_is_another():
    ids = np.zeros((4, 5), np.uint8)
    ids[2:, 3:] = 1
    white = np.full((4, 5, 3), 255, np.uint8)
    dark = blend_overlay(white, ids, LABELS, 0.0)[..., 0] < 200
    expected = np.zeros((4, 5), bool)
    expected[1, 3:] = expected[2:, 2] = True
    np.testing.assert_array_equal(dark, expected)


def test_the_legend_shows_what_is_there_and_only_that():
    ids = halves()
    drawn = Prediction(ids, LABELS, picture=np.zeros((*ids.shape, 3), np.uint8)).overlay()
    assert drawn.width >= 300
    below = np.array(drawn)[40:].reshape(-1, 3)
    colors = {tuple(pixel) for pixel in below.tolist()}
    assert {LABELS.colors[0], LABELS.colors[3], PAPER} <= colors
    absent = {LABELS.colors[i] for i in range(11)} - {LABELS.colors[0], LABELS.colors[3]}
    assert not colors & absent


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (700, 3)])
def test_pictures_of_any_size_can_be_drawn(size):
    drawn = Prediction(np.zeros(size, np.uint8), LABELS, picture=np.zeros((*size, 3), np.uint8)).overlay()
    assert drawn.height > size[0]


def test_a_confusion_picture_is_blue_where_right_and_red_where_wrong():
    confusion = torch.eye(11, dtype=torch.long) * 100
    confusion[0, 0], confusion[0, 4] = 0, 100
    drawn = np.array(confusion_picture(compute_metrics(confusion, LABELS), LABELS)).astype(int)
    assert (drawn == PAPER).all(2).any()
    assert (drawn == INK).all(2).any()
    blue, red = (drawn == (31, 99, 168)).all(2).sum(), (drawn == (186, 52, 44)).all(2).sum()
    assert 8 * red < blue < 12 * red, "10 right cells, 1 wrong"
