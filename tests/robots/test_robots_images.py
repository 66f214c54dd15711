"""Pictures in robots' messages: every encoding against pixels that are known, and what cannot be read."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.robots import images, messages

RGB = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
ALPHA = np.full((6, 8, 1), 77, np.uint8)
STORED = {
    "rgb8": RGB,
    "bgr8": RGB[..., ::-1],
    "rgba8": np.concatenate([RGB, ALPHA], 2),
    "bgra8": np.concatenate([RGB[..., ::-1], ALPHA], 2),
    "8UC3": RGB[..., ::-1],
    "8UC4": np.concatenate([RGB[..., ::-1], ALPHA], 2),
}


def padded(rows, padding):
    """Rows with bytes behind them that belong to no pixel."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    return np.concatenate([flat, np.full((len(rows), padding), 200, np.uint8)], 1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", STORED)
def test_an_encoding_in_color_gives_its_pixels(encoding, padding):
    rows = padded(STORED[encoding], padding)
    assert np.array_equal(images.image_rgb(6, 8, encoding, rows.shape[1], rows.reshape(-1)), RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_gray_is_the_same_in_all_channels(encoding):
    rows = padded(RGB[..., 0], 3)
    made = images.image_rgb(6, 8, encoding, 11, rows.reshape(-1))
    assert np.array_equal(made, np.repeat(RGB[..., :1], 3, 2))


def test_the_last_row_needs_no_padding():
    rows = padded(RGB, 4).reshape(-1)[:-4]
    assert np.array_equal(images.image_rgb(6, 8, "rgb8", 28, rows), RGB)


@pytest.mark.parametrize(
    ("encoding", "tile"),
    [("bayer_rggb8", "rggb"), ("bayer_bggr8", "bggr"), ("bayer_gbrg8", "gbrg"), ("bayer_grbg8", "grbg")],
)
def test_a_mosaic_of_one_color_gives_that_color(encoding, tile):
    color = {"r": 200, "g": 90, "b": 30}
    mosaic = np.tile(np.array([color[each] for each in tile], np.uint8).reshape(2, 2), (4, 5))
    made = images.image_rgb(8, 10, encoding, 13, padded(mosaic, 3).reshape(-1))
    assert (made[2:-2, 2:-2] == (200, 90, 30)).all()


@pytest.mark.parametrize(
    ("encoding", "place"), [("yuv422", 1), ("uyvy", 1), ("yuv422_yuy2", 0), ("yuyv", 0), ("nv12", None), ("nv21", None)]
)
def test_brightness_and_color_of_yuv_are_where_they_belong(encoding, place):
    """Y rises from left to right; U is high and V is low, which is blue (BT.601)."""
    y = np.tile(np.linspace(60, 200, 8).astype(np.uint8), (4, 1))
    if place is None:
        colors = np.tile(np.array([180, 90] if encoding == "nv12" else [90, 180], np.uint8), (2, 4))
        data = np.concatenate([y, colors])
    else:
        data = np.empty((4, 8, 2), np.uint8)
        data[..., place], data[:, ::2, 1 - place], data[:, 1::2, 1 - place] = y, 180, 90
    rows = padded(data, 2)
    made = images.image_rgb(4, 8, encoding, rows.shape[1], rows.reshape(-1)).astype(int)
    assert (np.diff(made[..., 1]) > 0).all()
    expected = 1.164 * (y - 16.0)[..., None] + np.array([1.596 * -38, -0.813 * -38 - 0.391 * 52, 2.018 * 52])
    assert abs(made - expected.clip(0, 255)).max() <= 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoding": "mono16"}, "more than 8 bits a channel; name a topic of 8 bits"),
        ({"encoding": "32FC1"}, "more than 8 bits"),
        ({"encoding": "rgb9"}, "did you mean 'rgb8'"),
        ({"step": 23}, "rows of 23 bytes"),
        ({"height": 7}, "144 bytes cannot hold"),
        ({"height": 0}, "no size of a picture"),
        ({"height": 2**20, "width": 2**20}, "no size of a picture"),
        ({"encoding": "nv12", "height": 3}, "even sides only"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_way_out(change, told):
    given = {"height": 6, "width": 8, "encoding": "rgb8", "step": 24, "data": RGB.reshape(-1)} | change
    with pytest.raises(DataError, match=told) as raised:
        images.image_rgb(**given, shown="a message of /cam")
    assert "a message of /cam" in str(raised.value)


@pytest.mark.parametrize("format", ["jpeg", "rgb8; jpeg compressed bgr8", "bgr8; png compressed "])
def test_compressed_pictures_are_those_that_a_file_of_the_same_bytes_holds(format):
    kind = "PNG" if "png" in format else "JPEG"
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, kind)
    made = images.compressed_rgb(format, np.frombuffer(file.getvalue(), np.uint8))
    assert np.array_equal(made, np.asarray(Image.open(file).convert("RGB")))


def test_depth_and_damage_are_refused():
    with pytest.raises(DataError, match="depth"):
        images.compressed_rgb("16UC1; compressedDepth png", np.zeros(9, np.uint8))
    with pytest.raises(DataError, match="cannot be read as a picture"):
        images.compressed_rgb("jpeg", np.frombuffer(b"\xff\xd8\xff and no more", np.uint8))


def test_messages_come_back_as_they_were():
    gray = RGB[..., 0]
    message = messages.gray_image(gray, 1_700_000_000_999_999_999, "cam")
    back = messages.deserialize(messages.serialize(message), messages.IMAGE)
    assert (messages.stamp_ns_of(back), back.header.frame_id) == (1_700_000_000_999_999_999, "cam")
    assert np.array_equal(images.message_rgb(back, "it")[..., 0], gray)
    names = messages.deserialize(
        messages.serialize(messages.label_info(label_set("camvid"), 5, "cam")), messages.LABEL_INFO
    )
    assert {each.class_id: each.class_name for each in names.class_map}[3] == "road"


def test_the_type_of_names_is_known_by_vision_msgs_own_hash():
    """As the package vision_msgs of ROS 2 generates it: subscribers compare it."""
    expected = "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783"
    assert messages.type_hash(messages.LABEL_INFO) == expected


def test_a_message_that_is_cut_off_is_said():
    data = messages.serialize(messages.gray_image(RGB[..., 0], 5, "cam"))
    for end in (3, 20, len(data) - 5):
        with pytest.raises(DataError, match="cut off"):
            messages.deserialize(data[:end], messages.IMAGE)


def test_confidence_is_rounded_and_bytes_stay():
    assert messages.confidence_gray(np.array([[0, 0.5, 1]], np.float32)).tolist() == [[0, 128, 255]]
    assert messages.confidence_gray(np.array([[7]], np.uint8)).tolist() == [[7]]


def test_a_message_says_its_own_type():
    message = SimpleNamespace(
        __msgtype__=messages.IMAGE, height=6, width=8, encoding="rgb8", step=24, data=RGB.reshape(-1)
    )
    assert np.array_equal(images.message_rgb(message, "it"), RGB)
