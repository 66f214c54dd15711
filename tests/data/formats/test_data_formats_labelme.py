"""Labelme's shapes become the masks that rays count, in the order of the file; broken shapes are named."""

import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside, left_out, masks, painted, picture, write
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data.formats import read_source, recognize

CLASSES = ["background", "door", "house"]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labels(root: Path, *shapes, **more):
    picture(root / "drive" / "a.png")
    document = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", "imageData": None}
    document |= {"imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}
    return write(root / "drive" / "a.json", document)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def png_of_size(width, height):
    """The head of a picture that claims a size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + bytes(50)).decode()


def test_shapes_lie_in_the_order_of_the_file(tmp_path):
    labels(tmp_path, shape("house", HOUSE), shape("door", DOOR))
    assert (masks("labelme", tmp_path, CLASSES)["drive/a"] == painted([(inside(HOUSE), 2), (inside(DOOR), 1)])).all()
    labels(tmp_path, shape("door", DOOR), shape("house", HOUSE))
    assert recognize(tmp_path) == ("labelme",)
    assert (masks("labelme", tmp_path, CLASSES)["drive/a"] == painted([(inside(DOOR), 1), (inside(HOUSE), 2)])).all()


def test_rectangles_circles_and_what_leaves_the_picture(tmp_path):
    labels(
        tmp_path,
        shape("house", [[20.4, 25.2], [3.3, 2.6]], "rectangle"),  # from any corner
        shape("door", [[10, 10], [13, 14]], "circle"),
        shape("door", PARTLY_OUT),
    )
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    circle = (rows - 10) ** 2 + (columns - 10) ** 2 < 25
    box = inside([(3.3, 2.6), (20.4, 2.6), (20.4, 25.2), (3.3, 25.2)])
    expected = painted([(box, 2), (circle, 1), (inside(PARTLY_OUT), 1)])
    assert (masks("labelme", tmp_path, CLASSES)["drive/a"] == expected).mean() >= 0.999


def test_a_mask_within_its_box(tmp_path):
    part = np.random.default_rng(0).random((9, 7)) < 0.5
    labels(
        tmp_path,
        shape("house", [[5, 4], [11, 12]], "mask", mask=png(part.astype(np.uint8) * 255)),
        shape("door", [[36, 2], [42, 10]], "mask", mask=png(part)),
    )
    expected = np.zeros((60, 60), np.uint8)
    expected[4:13, 5:12][part] = 2
    expected[2:11, 36:43][part] = 1
    assert (masks("labelme", tmp_path, CLASSES)["drive/a"] == expected[: SIZE[0], : SIZE[1]]).all()


def test_labelmes_own_names(tmp_path):
    labels(tmp_path, shape("house", HOUSE), shape("_background_", DOOR), shape("__ignore__", PARTLY_OUT))
    expected = painted([(inside(HOUSE), 1), (inside(DOOR), 0), (inside(PARTLY_OUT), VOID)])
    assert (masks("labelme", tmp_path, ["background", "house"])["drive/a"] == expected).all()


def test_lines_and_points_are_left_out(tmp_path):
    lines = (shape("house", HOUSE, "linestrip"), shape("house", HOUSE[:2], "line"), shape("house", HOUSE[:1], "point"))
    labels(tmp_path, *lines, shape("house", HOUSE))
    assert left_out("labelme", tmp_path) == {"lines": 2, "points": 1}


def test_the_picture_may_lie_in_a_folder_beside(tmp_path):
    picture(tmp_path / "images" / "b.png")
    for name in ("../images/b.png", "..\\images\\b.png", "C:\\images\\b.png"):
        labels(tmp_path, imagePath=name)
        assert read_source("labelme", tmp_path).entries[0].picture == tmp_path / "images" / "b.png"


def test_a_file_of_windows_with_a_byte_order_mark(tmp_path):
    path = labels(tmp_path, shape("house", HOUSE))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert (masks("labelme", tmp_path, ["background", "house"])["drive/a"] == inside(HOUSE)).all()


def test_other_json_files_are_not_read(tmp_path):
    labels(tmp_path, shape("house", HOUSE))
    write(tmp_path / "notes.json", {"shapes": "none"})
    assert len(read_source("labelme", tmp_path).entries) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (shape("door", DOOR[:2]), r"shapes\[1\] \(door\): a polygon of 2 point\(s\)"),
        (shape("door", DOOR, "circle"), r"a circle of 4 point\(s\); it needs two"),
        (shape("door", DOOR[:1], "rectangle"), r"a rectangle of 1 point\(s\)"),
        (shape("door", DOOR, "star"), "shape_type 'star' is not known"),
        (shape("door", DOOR[:2], "mask"), "it is no PNG"),
        (shape("door", DOOR[:2], "mask", mask="%%"), "its mask is no PNG"),
        (
            shape("door", DOOR[:2], "mask", mask=png(np.zeros((9, 9), np.uint8))[:60]),
            r"shapes\[1\] \(door\) cannot",
        ),
        (shape("door", DOOR[:2], "mask", mask=png_of_size(100_000, 100_000)), r"shapes\[1\] \(door\) cannot"),
        (shape("door", DOOR[:2], "mask", mask=png_of_size(0, 3)), "cannot be read"),
        (shape("door", [[1, 2, 3]] * 3), r"shapes\[1\].points\[0\]"),
        (shape(None, DOOR), r"shapes\[1\].label: .*found None"),
        ({"points": DOOR}, r"shapes\[1\].label: field required"),
    ],
)
def test_a_broken_shape_is_named(tmp_path, wrong, says):
    labels(tmp_path, shape("house", HOUSE), wrong)
    with pytest.raises(DataError, match=rf"a\.json.*{says}") as caught:
        read_source("labelme", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"), [("b.png", "is not in"), ("../../b.png", "lies outside"), ("/etc/b.png", "is not in")]
)
def test_a_picture_that_is_not_there_is_named(tmp_path, name, says):
    labels(tmp_path, imagePath=name)
    with pytest.raises(DataError, match=rf"a\.json: imagePath: picture '{name}' {says}"):
        read_source("labelme", tmp_path)


def test_what_is_no_json_is_named(tmp_path):
    path = labels(tmp_path, shape("house", HOUSE))
    whole = path.read_bytes()
    write(tmp_path / "b.json", whole.decode().replace("a.png", "drive/b.png"))
    picture(tmp_path / "drive" / "b.png")
    for length in (0, 10, 100, len(whole) - 30, len(whole) - 1):  # also where nothing shows any more whose it is
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.json is no whole JSON"):
            read_source("labelme", tmp_path)


def test_pictures_without_a_file_are_left_out_and_counted(tmp_path):
    labels(tmp_path, shape("house", HOUSE))
    picture(tmp_path / "b.png")
    assert left_out("labelme", tmp_path) == {"pictures without labels": 1}
