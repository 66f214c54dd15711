"""Pictures of predictions hold the class colours, and a legend of what is there."""

import numpy as np
import pytest
import torch

from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID, Prediction
from kerbseg.metrics import compute_metrics
from kerbseg.predict.draw import INK, PAPER, colorize, confusion_picture, overlay

LABELS = label_set("camvid")


def halves(height=40, width=300):
    ids = np.zeros((height, width), np.uint8)
    ids[:, width // 2 :] = 3
    return ids


def test_each_pixel_has_its_class_colour_and_void_none():
    ids = np.array([[0, 3, VOID]], np.uint8)
    np.testing.assert_array_equal(colorize(ids, LABELS)[0], [LABELS.colors[0], LABELS.colors[3], (0, 0, 0)])


def test_an_overlay_mixes_picture_and_colour_and_darkens_borders():
    ids = halves()
    drawn = np.array(overlay(np.full((*ids.shape, 3), 100, np.uint8), Prediction(ids, LABELS), 0.5, legend=False))
    np.testing.assert_allclose(drawn[5, 10], (np.array(LABELS.colors[0]) + 100) / 2, atol=1)
    np.testing.assert_allclose(drawn[5, -10], (np.array(LABELS.colors[3]) + 100) / 2, atol=1)
    border = (np.array(LABELS.colors[0]) + 100) / 2 * 0.45
    np.testing.assert_allclose(drawn[5, ids.shape[1] // 2 - 1], border, atol=1)


def test_the_legend_shows_what_is_there_and_only_that():
    ids = halves()
    drawn = overlay(np.zeros((*ids.shape, 3), np.uint8), Prediction(ids, LABELS))
    assert drawn.width >= 300
    below = np.array(drawn)[40:].reshape(-1, 3)
    colours = {tuple(pixel) for pixel in below.tolist()}
    assert {LABELS.colors[0], LABELS.colors[3], PAPER} <= colours
    absent = {LABELS.colors[i] for i in range(11)} - {LABELS.colors[0], LABELS.colors[3]}
    assert not colours & absent


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (700, 3)])
def test_pictures_of_any_size_can_be_drawn(size):
    drawn = overlay(np.zeros((*size, 3), np.uint8), Prediction(np.zeros(size, np.uint8), LABELS))
    assert drawn.height > size[0]


def test_a_confusion_picture_is_blue_where_right_and_red_where_wrong():
    confusion = torch.eye(11, dtype=torch.long) * 100
    confusion[0, 0], confusion[0, 4] = 0, 100
    drawn = np.array(confusion_picture(compute_metrics(confusion, LABELS), LABELS)).astype(int)
    assert (drawn == PAPER).all(2).any()
    assert (drawn == INK).all(2).any()
    blue, red = (drawn == (31, 99, 168)).all(2).sum(), (drawn == (186, 52, 44)).all(2).sum()
    assert 8 * red < blue < 12 * red, "10 right cells, 1 wrong"
