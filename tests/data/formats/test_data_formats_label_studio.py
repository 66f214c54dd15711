"""Label Studio's regions become the masks that rays count; broken tasks are named."""

from pathlib import Path

import numpy as np
import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside, left_out, masks, painted, picture, write

from kerbseg.core.errors import DataError
from kerbseg.data.formats import read_source, recognize

CLASSES = ["background", "door", "house"]


def result(kind, value, labels=(), **more):
    return {
        "id": "x",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": SIZE[1],
        "original_height": SIZE[0],
        "image_rotation": 0,
        "value": {**value, **({kind: list(labels)} if labels else {})},
        **more,
    }


def polygon(label, points):
    percent = [[x / SIZE[1] * 100, y / SIZE[0] * 100] for x, y in points]
    return result("polygonlabels", {"points": percent, "closed": True}, [label])


def brush(mask):
    """A stream of runs of one value each, with 16 bits for every count."""
    bits = f"{mask.size * 4:032b}" + f"{7:05b}" + "1111" * 4
    for pixel in mask.ravel().tolist():
        bits += "1" + "00" + f"{3:016b}" + f"{255 * pixel:08b}"
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def task(*results, image="/data/upload/1/1a2b3c4d-a.png", **more):
    return {"id": 7, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results), **more}]}


def labels(root: Path, *tasks):
    picture(root / "pictures" / "a.png")
    return write(root / "project-1.json", list(tasks))


def test_polygons_the_smaller_before_the_larger(tmp_path):
    labels(tmp_path, task(polygon("door", DOOR), polygon("house", HOUSE), polygon("house", PARTLY_OUT)))
    expected = painted([(inside(HOUSE) | inside(PARTLY_OUT), 2), (inside(DOOR), 1)])
    assert recognize(tmp_path) == ("label-studio",)
    assert (masks("label-studio", tmp_path, CLASSES)["pictures/a"] == expected).all()


def test_brushes_and_ellipses(tmp_path):
    painted_by_hand = inside(HOUSE)
    rle = {"format": "rle", "rle": brush(painted_by_hand)}
    ellipse = {"x": 75, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 0}
    labels(tmp_path, task(result("brushlabels", rle, ["house"]), result("ellipselabels", ellipse, ["door"])))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    oval = ((columns - 30) / 8) ** 2 + ((rows - 15) / 3) ** 2 < 1
    expected = painted([(painted_by_hand, 2), (oval, 1)])
    assert (masks("label-studio", tmp_path, CLASSES)["pictures/a"] == expected).mean() >= 0.999


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/1a2b3c4d-a.png",
        "/data/upload/1/a.png",
        "/data/local-files/?d=pictures/a.png",
        "s3://bucket/street/a.png",
        "http://host:8080/data/a.png?token=secret",
        "pictures/a.png",
    ],
)
def test_the_picture_of_an_address(tmp_path, image):
    labels(tmp_path, task(image=image))
    assert read_source("label-studio", tmp_path).entries[0].picture == tmp_path / "pictures" / "a.png"


def test_one_annotation_counts(tmp_path):
    several = task(polygon("door", HOUSE))
    several["annotations"].insert(0, {"result": [polygon("house", DOOR)], "was_cancelled": True})
    several["annotations"].append({"result": [polygon("house", HOUSE)], "ground_truth": True})
    labels(tmp_path, several)
    assert (masks("label-studio", tmp_path, ["background", "house"])["pictures/a"] == inside(HOUSE)).all()
    assert "1 task(s) have several annotations" in read_source("label-studio", tmp_path).notes[0]


def test_what_has_no_place_is_left_out_and_counted(tmp_path):
    picture(tmp_path / "pictures" / "b.png")
    others = (
        result("rectanglelabels", {"x": 1, "y": 1, "width": 9, "height": 9}, ["door"]),
        result("keypointlabels", {"x": 1, "y": 1}, ["door"]),
        result("choices", {"choices": ["day"]}),
        result("polygonlabels", {"points": [[1, 1], [2, 2], [3, 1]]}),
    )
    labels(tmp_path, task(*others), task(image="b.png", was_cancelled=True), {**task(), "annotations": []})
    assert left_out("label-studio", tmp_path) == {
        "rectangles": 1,
        "key points": 1,
        "other answers": 1,
        "regions without a label": 1,
        "tasks without an annotation": 2,
    }


BROKEN = {
    "a polygon of two points": (
        result("polygonlabels", {"points": [[1, 1], [2, 2]]}, ["door"]),
        r"task \[0\] \(id 7\): result\[0\] \(polygonlabels\): a polygon of 2 point",
    ),
    "points of text": (result("polygonlabels", {"points": [["x", 1]] * 3}, ["door"]), r"points.*found 'x'"),
    "a short brush": (result("brushlabels", {"rle": brush(inside(DOOR))[:-40]}, ["door"]), "ends too early"),
    "a brush of another size": (
        result("brushlabels", {"rle": brush(np.ones((2, 2), bool))}, ["door"]),
        "a brush of 16 values where 40x30 has 4800",
    ),
    "nothing": (result("polygonlabels", {}, ["door"]), "has neither points nor rle"),
    "two labels": (
        result("polygonlabels", {"points": HOUSE}, ["door", "house"]),
        "has labels door, house; a",
    ),
    "no size": ({**polygon("door", DOOR), "original_width": None}, "has no original_width"),
    "an endless size": ({**polygon("door", DOOR), "original_width": 10**9}, "a picture of 1000000000x30"),
    "a turned picture": ({**polygon("door", DOOR), "image_rotation": 90}, "was turned in the tool"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_region_is_named(tmp_path, case):
    wrong, says = BROKEN[case]
    labels(tmp_path, task(wrong))
    with pytest.raises(DataError, match=rf"project-1\.json.*{says}") as caught:
        read_source("label-studio", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("/data/upload/1/b.png", "picture '/data/upload/1/b.png' is not in"),
        ("../../b.png", "lies outside"),
        ("/data/local-files/?d=../../b.png", "lies outside"),
        ("https://[broken/a.png", "its data names no picture, found image"),
        ("a.mp4", "its data names no picture, found image"),
    ],
)
def test_a_picture_that_is_not_there_is_named(tmp_path, image, says):
    labels(tmp_path, task(image=image))
    with pytest.raises(DataError, match=rf"task \[0\] \(id 7\): .*{says}"):
        read_source("label-studio", tmp_path)


@pytest.mark.parametrize("content", ["[", "{}", "[3]", '[{"annotations": []}]', "[]"])
def test_what_is_no_export_is_named(tmp_path, content):
    path = write(tmp_path / "project-1.json", content)
    with pytest.raises(DataError, match=r"project-1\.json"):
        read_source("label-studio", path)


def test_the_short_export_is_told(tmp_path):
    write(tmp_path / "project-1.json", [{"image": "/data/upload/1/a.png", "label": []}])
    with pytest.raises(DataError, match="export 'JSON' \\(not JSON-MIN\\)"):
        read_source("label-studio", tmp_path)
