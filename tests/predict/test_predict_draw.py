"""Pictures of predictions hold the class colors, and a legend of what is there."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import ImageDraw

from kerbseg.core.labels import LabelSet, label_set
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


def named(*names):
    return LabelSet("named", names, tuple((50 + 40 * i, 200 - 40 * i, 90) for i in range(len(names))))


def texts(monkeypatch):
    """What is drawn as text from now on."""
    drawn = []
    text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, xy, text_, **how: (drawn.append(text_), text(self, xy, text_, **how))
    )
    return drawn


def test_names_without_a_font_are_ids_with_a_note(monkeypatch):
    from kerbseg.predict import fonts

    labels = named("road", "天空", "하늘")
    ids = np.arange(3, dtype=np.uint8).repeat(2000).reshape(60, 100)
    prediction = Prediction(ids, labels, picture=np.zeros((60, 100, 3), np.uint8))
    monkeypatch.setattr(fonts, "WIDE_FONTS", ())
    drawn = texts(monkeypatch)
    prediction.overlay()
    assert [entry for entry in drawn if "%" in entry] == ["road  33.3 %", "class 1  33.3 %", "class 2  33.3 %"]
    assert fonts.NOTE in drawn
    drawn.clear()
    confusion_picture(compute_metrics(torch.eye(3, dtype=torch.int64), labels), labels)
    assert "road" in drawn
    assert "class 1" in drawn
    assert any(fonts.NOTE in text for text in drawn)


def test_a_font_of_the_system_is_taken_where_it_has_all_characters(monkeypatch):
    from kerbseg.predict import fonts

    loaded = fonts.ImageFont.load_default(16)
    asked = []

    def truetype(name, size):
        asked.append(name)
        if name == "absent.ttf":
            raise OSError("cannot open resource")
        return loaded

    monkeypatch.setattr(fonts.ImageFont, "load_default", lambda size: loaded)
    monkeypatch.setattr(fonts.ImageFont, "truetype", truetype)
    monkeypatch.setattr(fonts, "WIDE_FONTS", ("absent.ttf", "wide.ttf"))
    monkeypatch.setattr(fonts, "has_all", lambda font, characters: bool(asked) or not (characters - set("road")))
    assert fonts.font_for("road", 16) is not None
    assert asked == []
    assert fonts.font_for("天", 12) is loaded
    assert asked[:2] == ["absent.ttf", "wide.ttf"]


def test_a_missing_sign_is_told_from_one_that_is_there():
    from kerbseg.predict.fonts import font_for, has_all

    own = font_for("", 16)
    assert has_all(own, frozenset("road 0.1 %"))
    assert not has_all(own, frozenset("天"))


def test_drawing_a_large_picture_takes_little_beside_it():
    labels = label_set("camvid")
    picture = np.zeros((3000, 2000, 3), np.uint8)
    prediction = Prediction(np.zeros((3000, 2000), np.uint8), labels, picture=picture)
    tracemalloc.start()
    try:
        prediction.overlay(0.3)
        prediction.shares()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2 * picture.nbytes
