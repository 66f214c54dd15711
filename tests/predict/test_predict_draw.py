"""Pictures of predictions hold the class colors, and a legend of what is there."""

import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kerbseg.core.display import display_palette
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import VOID
from kerbseg.metrics import compute_metrics
from kerbseg.predict import Prediction, draw, fonts, legend
from kerbseg.predict.draw import (
    INK,
    PAPER,
    blend_overlay,
    border_painter,
    colorize,
    confusion_picture,
    draw_names,
    with_legend,
)
from kerbseg.predict.legend import legend_strip

LABELS = label_set("camvid")


def halves(height=40, width=300):
    ids = np.zeros((height, width), np.uint8)
    ids[:, width // 2 :] = 3
    return ids


def test_each_pixel_has_its_class_color_and_void_none():
    ids = np.array([[0, 3, VOID]], np.uint8)
    np.testing.assert_array_equal(colorize(ids, LABELS)[0], [LABELS.colors[0], LABELS.colors[3], (0, 0, 0)])


def shown(name, labels=LABELS):
    return np.array(display_palette(labels)[labels.classes.index(name)], int)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_an_overlay_mixes_picture_and_display_color(alpha):
    ids = halves(80)
    drawn = blend_overlay(np.full((*ids.shape, 3), 100, np.uint8), ids, LABELS, alpha).astype(int)
    for column, name in ((10, "sky"), (-10, "road")):
        np.testing.assert_allclose(drawn[5, column], shown(name) * alpha + 100 * (1 - alpha), atol=2)


def test_without_weight_an_overlay_is_the_picture_and_with_all_the_colors():
    ids, picture = halves(80), np.random.default_rng(0).integers(0, 256, (80, 300, 3), np.uint8)
    np.testing.assert_allclose(blend_overlay(picture, ids, LABELS, 0.0).astype(int), picture, atol=1)
    full = blend_overlay(picture, ids, LABELS, 1.0)
    np.testing.assert_array_equal(full[:, 10], np.tile(shown("sky"), (80, 1)))


def test_a_border_is_soft_and_nearer_to_the_classes_own_color():
    ids = halves(80)
    drawn = blend_overlay(np.zeros((*ids.shape, 3), np.uint8), ids, LABELS)[40].astype(int)
    strength = drawn[:, 2] / np.where(np.arange(300) < 150, shown("sky")[2], shown("road")[2])
    np.testing.assert_allclose(strength[:148], 0.5, atol=0.02)
    np.testing.assert_allclose(strength[152:], 0.5, atol=0.02)
    assert 0.55 < strength[148] < strength[149]
    assert 0.55 < strength[151] < strength[150]


def test_a_slanting_border_has_no_stairs():
    """Along a border that climbs a pixel in four, each step is spread over several pixels."""
    columns = np.arange(200)
    ids = np.where(np.arange(100)[:, None] > 30 + columns // 4, 3, 0).astype(np.uint8)
    drawn = blend_overlay(np.zeros((100, 200, 3), np.uint8), ids, LABELS, 1.0)
    row, hard = drawn[55].astype(int), display_palette(LABELS)[ids[55]].astype(int)
    assert np.abs(np.diff(row, axis=0)).max() < 0.6 * np.abs(np.diff(hard, axis=0)).max()


@pytest.mark.parametrize("bands", [4, 7, 64])
def test_a_picture_drawn_in_bands_is_as_if_drawn_at_once(monkeypatch, bands):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 11, (13, 18), np.uint8).repeat(7, 0).repeat(9, 1)
    picture = rng.integers(0, 256, (*ids.shape, 3), np.uint8)
    labels = replace(LABELS, background=frozenset({"road", "tree"}))
    for each in (LABELS, labels):
        whole = blend_overlay(picture, ids, each)
        monkeypatch.setattr(draw, "BAND_PIXELS", bands * ids.shape[1])
        np.testing.assert_array_equal(blend_overlay(picture, ids, each), whole)
        monkeypatch.undo()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_away_from_borders_an_overlay_is_the_float_blend_within_a_level(alpha):
    rng = np.random.default_rng(4)
    ids, picture = halves(80), rng.integers(0, 256, (80, 300, 3), np.uint8)
    exact = display_palette(LABELS)[ids] * alpha + picture * (1 - alpha)
    away = np.abs(blend_overlay(picture, ids, LABELS, alpha) - exact)[:, np.r_[0:140, 160:300]]
    assert away.max() <= (1 if alpha == 0.5 else 2 - 1e-6), "two values are rounded down"


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [(64, 80), (97, 131), (720, 64), (1400, 1404)])
def test_machine_code_paints_the_same_borders(monkeypatch, alpha, size):
    painter = border_painter()
    if painter is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(draw, "BAND_PIXELS", 40 * size[1])
    rng = np.random.default_rng(3)
    small = rng.integers(0, 11, (size[0] // 8 + 1, size[1] // 8 + 1), np.uint8)
    ids = small.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
    ids[5, 7], ids[-1, -1] = VOID, 3
    picture = rng.integers(0, 256, (*size, 3), np.uint8)
    called = []
    drawn = blend_overlay(picture, ids, LABELS, alpha, lambda *band: called.append(1) or painter(*band))
    np.testing.assert_array_equal(drawn, blend_overlay(picture, ids, LABELS, alpha))
    assert called


def test_without_numba_and_with_background_borders_are_painted_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "kerbseg.runtime.border_kernel", None)
    assert border_painter() is None
    labels = replace(LABELS, background=frozenset({"road"}))
    ids, picture = halves(80), np.full((80, 300, 3), 90, np.uint8)
    drawn = blend_overlay(picture, ids, labels, 0.5, lambda *band: pytest.fail("it knows no background"))
    np.testing.assert_array_equal(drawn, blend_overlay(picture, ids, labels))


@pytest.mark.parametrize("order", ["F", "turned", "mirrored"])
def test_the_order_of_pixels_in_memory_changes_nothing(order):
    rng = np.random.default_rng(2)
    picture, ids = rng.integers(0, 256, (90, 120, 3), np.uint8), halves(90, 120)
    other = {
        "F": np.asfortranarray(picture),
        "turned": picture.transpose(1, 0, 2).copy().transpose(1, 0, 2),
        "mirrored": picture[:, ::-1].copy()[:, ::-1],
    }[order]
    for labels in (LABELS, replace(LABELS, background=frozenset({"road"}))):
        np.testing.assert_array_equal(blend_overlay(other, ids, labels), blend_overlay(picture, ids, labels))


def test_background_stays_as_it_is_but_for_the_borders_of_others():
    labels = replace(LABELS, background=frozenset({"road"}))
    ids, picture = halves(80), np.random.default_rng(0).integers(0, 256, (80, 300, 3), np.uint8)
    drawn = blend_overlay(picture, ids, labels)
    np.testing.assert_array_equal(drawn[:, 153:], picture[:, 153:])
    np.testing.assert_array_equal(drawn[:, :140], blend_overlay(picture, ids, LABELS)[:, :140])
    gray = blend_overlay(np.zeros_like(picture), ids, labels)[40, 150].astype(int)
    np.testing.assert_allclose(gray / gray.sum(), shown("sky") / shown("sky").sum(), atol=0.02, err_msg="sky's border")


def test_on_small_pictures_borders_would_cover_all():
    ids = halves(24, 32)
    drawn = blend_overlay(np.zeros((24, 32, 3), np.uint8), ids, LABELS)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2


def share_of(*names):
    return {name: 1 / len(names) for name in names}


def test_the_legend_has_all_classes_and_those_that_are_there_in_full_color():
    drawn = with_legend(np.zeros((200, 400, 3), np.uint8), share_of("sky", "road"), LABELS)
    below = {tuple(pixel) for pixel in np.array(drawn)[200:].reshape(-1, 3).tolist()}
    colors = {name: tuple(shown(name).tolist()) for name in LABELS.classes}
    assert {colors["sky"], colors["road"], PAPER} <= below
    assert not below & {color for name, color in colors.items() if name not in ("sky", "road")}


def test_the_legend_stands_where_it_stood_whatever_is_in_the_picture(monkeypatch):
    drawn, places = texts(monkeypatch), []
    for present in (share_of("sky", "road"), share_of("car"), dict.fromkeys(LABELS.classes, 1 / 11)):
        drawn.clear()
        sheet = with_legend(np.zeros((360, 480, 3), np.uint8), present, LABELS)
        places.append((sheet.size, [(text, xy) for text, xy in drawn.items() if text in LABELS.classes]))
    assert places[0] == places[1] == places[2]
    assert [text for text, _ in places[0][1]] == list(LABELS.classes), "in the label set's order"


@pytest.mark.parametrize(("size", "letters"), [((24, 32), 12), ((360, 480), 12), ((2160, 3840), 57)])
def test_the_legend_grows_with_the_picture(monkeypatch, size, letters):
    sizes = []
    monkeypatch.setattr(legend, "font_for", lambda text, size: sizes.append(size) or fonts.font_for(text, size))
    sheet = with_legend(np.zeros((*size, 3), np.uint8), share_of("sky"), LABELS)
    assert sizes == [letters]
    assert sheet.width >= size[1]
    assert sheet.height < max(2 * size[0], 320)


@pytest.mark.parametrize("count", [2, 255])
def test_a_legend_holds_every_class_inside_the_sheet(monkeypatch, count):
    labels = named(*(f"a class that is number {i}" for i in range(count)))
    drawn = texts(monkeypatch)
    for size in ((24, 32), (700, 3)):
        drawn.clear()
        sheet = with_legend(np.zeros((*size, 3), np.uint8), share_of(labels.classes[0]), labels)
        there = {text: xy for text, xy in drawn.items() if text in labels.classes}
        assert len(there) == len(set(there.values())) == count
        assert all(x >= 0 and x + 140 < sheet.width and y + 8 < sheet.height for x, y in there.values())


def test_a_small_picture_is_shown_in_whole_times_its_size():
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    sheet = np.array(with_legend(picture, share_of("sky"), LABELS))
    np.testing.assert_array_equal(sheet[: 6 * 24, : 6 * 32], picture.repeat(6, 0).repeat(6, 1))


def test_a_strip_for_videos_has_the_width_of_frames_and_no_background():
    labels = replace(LABELS, background=frozenset({"road"}))
    for height, width in ((24, 32), (720, 1280), (360, 480)):
        strip = legend_strip(labels, height, width)
        assert strip.shape[1:] == (width, 3)
        assert strip.shape[0] > 4
    colors = {tuple(pixel) for pixel in np.unique(strip.reshape(-1, 3), axis=0).tolist()}
    assert tuple(shown("sky").tolist()) in colors
    assert tuple(shown("road").tolist()) not in colors


def street(height=360, width=480):
    """Sky, and below it road with a car of a third of the width, one of a fiftieth, and a row of three pixels."""
    ids = np.full((height, width), LABELS.classes.index("road"), np.uint8)
    ids[: height // 2] = LABELS.classes.index("sky")
    ids[height * 5 // 8 : height * 7 // 8, width // 8 : width * 11 // 24] = LABELS.classes.index("car")
    ids[height * 3 // 4 :, width * 3 // 4 : width * 3 // 4 + width // 50] = LABELS.classes.index("pole")
    return ids


def written(monkeypatch, ids, labels=LABELS):
    drawn = texts(monkeypatch)
    draw_names(Image.new("RGB", ids.shape[::-1]), ids, labels)
    monkeypatch.undo()
    return dict(drawn)


@pytest.mark.parametrize("size", [(360, 480), (1080, 1920)])
def test_names_stand_inside_the_large_regions(monkeypatch, size):
    ids = street(*size)
    there = written(monkeypatch, ids)
    assert set(there) == {"sky", "road", "car"}
    for name, (x, y) in there.items():
        font = fonts.font_for("", min(size) // 24)
        wide, high = int(font.getlength(name)) // 2, int(font.size) // 2
        box = ids[int(y) - high : int(y) + high, int(x) - wide : int(x) + wide]
        assert (box == LABELS.classes.index(name)).mean() > 0.9, name


def test_background_and_small_pictures_have_no_names(monkeypatch):
    assert set(written(monkeypatch, street(), replace(LABELS, background=frozenset({"road"})))) == {"sky", "car"}
    assert written(monkeypatch, street(120, 160)) == {}
    assert written(monkeypatch, np.full((300, 400), VOID, np.uint8)) == {}


def test_each_region_has_its_name_and_a_spiral_is_one(monkeypatch):
    ids = np.zeros((400, 400), np.uint8)
    ids[:, 190:210] = 3
    assert list(texts_of(monkeypatch, ids)).count("sky") == 2
    ids[380:] = 0
    assert list(texts_of(monkeypatch, ids)).count("sky") == 1


def texts_of(monkeypatch, ids):
    """Every text, one as often as it was drawn."""
    every = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, xy, text, *args, **how: every.append(text))
    draw_names(Image.new("RGB", ids.shape[::-1]), ids, LABELS)
    monkeypatch.undo()
    return every


def test_drawing_twice_gives_the_same():
    ids = street()
    picture = np.random.default_rng(0).integers(0, 256, (*ids.shape, 3), np.uint8)
    one, other = (Prediction(ids.copy(), LABELS, picture=picture).overlay() for _ in range(2))
    assert one.tobytes() == other.tobytes()


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
    return LabelSet("named", names, tuple((50 + i // 2, 200 - i // 2, 90) for i in range(len(names))))


def texts(monkeypatch):
    """What is drawn as text from now on, and where."""
    drawn = {}
    text = ImageDraw.ImageDraw.text

    def noting(self, xy, words, *arguments, **how):
        drawn[words] = xy
        text(self, xy, words, *arguments, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", noting)
    return drawn


def test_names_without_a_font_are_ids_with_a_note(monkeypatch):
    labels = named("road", "天空", "하늘")
    ids = np.arange(3, dtype=np.uint8).repeat(2000).reshape(60, 100)
    prediction = Prediction(ids, labels, picture=np.zeros((60, 100, 3), np.uint8))
    monkeypatch.setattr(fonts, "WIDE_FONTS", ())
    drawn = texts(monkeypatch)
    prediction.overlay()
    assert {"road", "class 1", "class 2", "33.3 %"} <= set(drawn)
    assert "天空" not in drawn
    assert fonts.NOTE in drawn
    drawn.clear()
    confusion_picture(compute_metrics(torch.eye(3, dtype=torch.int64), labels), labels)
    assert "road" in drawn
    assert "class 1" in drawn
    assert any(fonts.NOTE in text for text in drawn)


def test_a_font_of_the_system_is_taken_where_it_has_all_characters(monkeypatch):
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
