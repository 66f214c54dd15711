"""Pictures in memory are taken for what they are, or refused in one line; no order of channels is guessed."""

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.predict import Predictor
from kerbseg.predict.sources.arrays import as_rgb

RGB = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
GRAY = RGB[..., 0]
RGBA = np.concatenate([RGB, GRAY[..., None]], 2)
BGRA = RGBA[..., [2, 1, 0, 3]]
AS_GRAY = np.stack([GRAY] * 3, 2)


@pytest.mark.parametrize(
    ("picture", "channels", "expected"),
    [
        (RGB, "rgb", RGB),
        (RGB[..., ::-1], "bgr", RGB),
        (RGB[..., ::-1], "rgb", RGB[..., ::-1]),
        (RGB[::-2, 5:], "rgb", RGB[::-2, 5:]),
        (RGBA, "rgb", RGB),
        (BGRA, "bgr", RGB),
        (GRAY, "rgb", AS_GRAY),
        (GRAY, "bgr", AS_GRAY),
        (GRAY[..., None], "rgb", AS_GRAY),
        (torch.from_numpy(RGB), "rgb", RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1), "rgb", RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1).flip(0), "bgr", RGB),
        (torch.from_numpy(GRAY.copy()), "rgb", AS_GRAY),
        (torch.from_numpy(GRAY.copy())[None], "rgb", AS_GRAY),
        (Image.fromarray(RGB), "rgb", RGB),
        (Image.fromarray(RGB), "bgr", RGB),  # it knows its order
        (Image.fromarray(RGBA), "rgb", RGB),
        (Image.fromarray(GRAY), "rgb", AS_GRAY),
        (Image.fromarray(GRAY > 99), "rgb", np.where(AS_GRAY > 99, 255, 0)),
    ],
)
def test_what_is_a_picture_is_taken(picture, channels, expected):
    rgb = as_rgb(picture, channels)
    np.testing.assert_array_equal(rgb, expected)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous, "torch cannot read backwards"


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (RGB / 255, r"uint8 0..255; found an array of float64 \[30, 50, 3\]"),
        (RGB.astype(np.uint16), "uint16"),
        (GRAY > 99, "bool"),
        (RGB.transpose(2, 0, 1), r"channels last.*\[3, 30, 50\].*transpose\(1, 2, 0\)"),
        (np.zeros((6, 5, 7), np.uint8), r"a predictor takes .*\[6, 5, 7\]"),
        (np.zeros(5, np.uint8), r"\[5\]"),
        (np.zeros((2, 2, 3, 4, 3), np.uint8), r"\[2, 2, 3, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "0x4 .* no pixels"),
        (np.zeros((4, 0), np.uint8), "4x0 .* no pixels"),
        (torch.rand(3, 30, 50), r"a tensor of float32 \[3, 30, 50\]: .*0..1 or normalized"),
        (torch.zeros(3, 30, 3, dtype=torch.uint8), "first or last"),
        (torch.zeros(30, 50, 3, dtype=torch.int64), "int64"),
        (Image.fromarray(GRAY.astype(np.uint16)), "mode I;16, more than 8 bits"),
        (Image.fromarray(GRAY.astype(np.float32)), "mode F"),
        (3, "found int"),
        (None, "found NoneType"),
        (iter([RGB]), "a list of them.*found list_iterator"),
    ],
)
def test_what_is_none_is_refused_in_one_line(bright, picture, why):
    with pytest.raises(InputError, match=why) as refusal:
        Predictor(bright)(picture)
    assert "\n" not in str(refusal.value)


def test_a_frame_of_opencv_is_that_picture_once_it_is_marked(camvid_bundle):
    predictor = Predictor(camvid_bundle)
    rgb, bgr = predictor(RGB).ids, RGB[..., ::-1]
    assert (predictor(bgr).ids != rgb).any(), "unmarked, it is another picture"
    marked = predictor(bgr, channels="bgr")
    np.testing.assert_array_equal(marked.ids, rgb)
    np.testing.assert_array_equal(marked.picture, RGB)
    of_opencv = Predictor(camvid_bundle, channels="bgr")
    np.testing.assert_array_equal(of_opencv(bgr).ids, rgb)
    np.testing.assert_array_equal(of_opencv(RGB, channels="rgb").ids, rgb)
    np.testing.assert_array_equal(of_opencv(Image.fromarray(RGB)).ids, rgb)


@pytest.mark.parametrize(("channels", "meant"), [("BGR", "'bgr'"), ("rgba", "'rgb'"), ("", "rgb, bgr")])
def test_an_order_that_does_not_exist_is_told(bright, channels, meant):
    with pytest.raises(KerbsegError, match=f"unknown channels '{channels}'; .* {meant}"):
        Predictor(bright, channels=channels)
    with pytest.raises(KerbsegError, match="unknown channels"):
        Predictor(bright)(RGB, channels=channels)


def test_lists_and_batches_give_a_list(bright, tmp_path):
    predictor = Predictor(bright)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    single = predictor(RGB).ids
    mixed = predictor([tmp_path / "a.png", str(tmp_path / "a.png"), RGB, Image.fromarray(RGB), GRAY[:9]])
    assert [prediction.ids.shape for prediction in mixed] == [(30, 50)] * 4 + [(9, 50)]
    assert all((prediction.ids == single).all() for prediction in mixed[:4])
    dark = RGB // 2
    for batch in (np.stack([RGB, dark]), torch.from_numpy(np.stack([RGB, dark])).permute(0, 3, 1, 2), (RGB, dark)):
        one, other = predictor(batch)
        np.testing.assert_array_equal(one.ids, single)
        np.testing.assert_array_equal(other.ids, predictor(dark).ids)
    assert predictor([]) == []
    [marked] = predictor([RGB[..., ::-1]], channels="bgr")
    np.testing.assert_array_equal(marked.ids, single)
    with pytest.raises(InputError, match="found list"):
        predictor([[RGB]])
    with pytest.raises(DataError, match="does not exist"):
        predictor([tmp_path / "b.png"])


def test_a_list_can_have_confidence(camvid_bundle):
    predictions = Predictor(camvid_bundle)([RGB, RGB], confidence=True)
    assert [prediction.confidence.shape for prediction in predictions] == [(30, 50)] * 2
    assert Predictor(camvid_bundle)(RGB).confidence is None


def test_an_array_that_may_not_be_written_is_a_picture_like_any_other(camvid_bundle, recwarn):
    frozen = np.array(RGB)
    frozen.flags.writeable = False
    predictor = Predictor(camvid_bundle, input_size="own")
    np.testing.assert_array_equal(predictor(frozen).ids, predictor(RGB).ids)
    assert not [warning for warning in recwarn if "not writable" in str(warning.message)]
