"""A prediction answers what people ask of it: where, how much, as a picture, as outlines, as files."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

import kerbseg
from kerbseg.core.display import display_palette
from kerbseg.core.errors import InputError, MissingExtra
from kerbseg.core.labels import label_set
from kerbseg.predict import Prediction
from kerbseg.predict.draw import blend_overlay

LABELS = label_set("camvid")
ROAD, CAR, SKY = (LABELS.classes.index(name) for name in ("road", "car", "sky"))


@pytest.fixture
def prediction():
    """Sky above road (twice as large), with a car of 3x4 pixels on it."""
    ids = np.full((30, 20), ROAD, np.uint8)
    ids[:10] = SKY
    ids[20:23, 5:9] = CAR
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    return Prediction(ids, LABELS, picture=picture)


def test_it_is_public():
    assert kerbseg.Prediction is Prediction


def test_names_and_colors_are_those_of_ids(prediction):
    assert prediction.names[prediction.ids[21, 6]] == "car"
    assert prediction.colors[prediction.ids[21, 6]] == LABELS.colors[CAR]
    assert len(prediction.names) == len(prediction.colors) == 11


def test_shares_are_of_all_pixels_the_largest_first(prediction):
    shares = prediction.shares()
    assert list(shares)[:3] == ["road", "sky", "car"]
    assert shares["road"] == (400 - 12) / 600
    assert shares["sky"] == 200 / 600
    assert shares["car"] == 12 / 600
    assert shares["tree"] == 0
    assert set(shares) == set(LABELS.classes)


def test_a_class_by_its_name_is_where_it_is(prediction):
    assert prediction["car"].dtype == bool
    np.testing.assert_array_equal(prediction["car"], prediction.ids == CAR)
    assert "car" in prediction
    assert "tree" not in prediction
    assert "zebra" not in prediction


@pytest.mark.parametrize(("name", "nearest"), [("carr", "did you mean 'car'"), (8, "choose from: sky"), ("x", "tree")])
def test_a_class_that_the_model_lacks_is_told_with_the_nearest(prediction, name, nearest):
    with pytest.raises(InputError, match=nearest):
        prediction[name]
    with pytest.raises(InputError, match="knows no class"):
        prediction.polygons(name)


def test_it_cannot_be_iterated_over_by_mistake(prediction):
    with pytest.raises(TypeError, match="not iterable"):
        list(prediction)


def test_as_a_picture_it_is_its_colors_or_the_overlay(prediction):
    display = display_palette(LABELS)
    np.testing.assert_array_equal(np.asarray(prediction.color()), LABELS.palette[prediction.ids])
    np.testing.assert_array_equal(np.asarray(prediction.color(display=True)), display[prediction.ids])
    plain = np.asarray(prediction.overlay(legend=False, names=False))
    np.testing.assert_array_equal(plain, blend_overlay(prediction.picture, prediction.ids, LABELS))
    assert prediction.overlay().height > 30
    shown = np.asarray(prediction.overlay(names=False))
    times = 160 // 20  # small ones are shown larger
    np.testing.assert_array_equal(shown[: 30 * times : times, : 20 * times : times], plain)
    strong = np.asarray(prediction.overlay(alpha=1, legend=False, names=False))
    np.testing.assert_array_equal(strong[5, 5], display[SKY])


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_a_weight_that_is_none_is_refused(prediction, alpha):
    with pytest.raises(InputError, match="alpha is"):
        prediction.overlay(alpha)


def test_without_its_picture_it_has_colors_alone(prediction, tmp_path):
    bare = Prediction(prediction.ids, LABELS)
    with pytest.raises(InputError, match=r"color\(\)"):
        bare.overlay()
    assert bare.save(tmp_path / "a") == (tmp_path / "a_ids.png",)
    assert Image.open(io.BytesIO(bare._repr_png_())).size == (20, 30)


def test_it_is_saved_as_the_command_saves_it(prediction, tmp_path):
    paths = prediction.save(str(tmp_path / "new" / "street.1"))
    assert [path.name for path in paths] == ["street.1_ids.png", "street.1_overlay.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[0])), prediction.ids)
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), np.asarray(prediction.overlay()))


def test_a_notebook_shows_the_overlay_and_its_text_is_short(prediction):
    shown = Image.open(io.BytesIO(prediction._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(prediction.overlay()))
    assert repr(prediction) == "<Prediction 30x20: road 64.7 %, sky 33.3 %, car 2.0 %>"
    many = Prediction(np.arange(11, dtype=np.uint8)[None], LABELS)
    assert repr(many).endswith("8 more>")


def test_outlines_are_regions_in_pixel_coordinates(prediction):
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    [car] = prediction.polygons("car")
    assert sorted(map(tuple, car.tolist())) == [(5, 20), (5, 22), (8, 20), (8, 22)], "column, row"
    [sky] = prediction.polygons("sky")
    filled = cv2.fillPoly(np.zeros((30, 20), np.uint8), [sky], 1)
    np.testing.assert_array_equal(filled.astype(bool), prediction["sky"])
    assert prediction.polygons("tree") == []


def test_every_region_has_an_outline_the_largest_first_those_inside_holes_too():
    pytest.importorskip("cv2", reason="opencv is not installed")
    ids = np.full((40, 40), ROAD, np.uint8)
    ids[2:5, 2:5] = CAR
    ids[10:38, 10:38] = CAR
    ids[15:33, 15:33] = ROAD  # a hole
    ids[20:26, 20:26] = CAR  # and a region in it
    outlines = Prediction(ids, LABELS).polygons("car")
    assert [outline.min(0).tolist() for outline in outlines] == [[10, 10], [20, 20], [2, 2]]
    assert all(outline.ndim == 2 and outline.shape[1] == 2 for outline in outlines)


def test_outlines_without_opencv_name_the_remedy(prediction, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[video\]'"):
        prediction.polygons("car")
