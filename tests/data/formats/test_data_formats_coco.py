"""COCO's polygons and run lengths become the masks that an independent count says; broken files are named."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside, left_out, masks, painted, picture, runs_by_column, write

from kerbseg.core.errors import DataError
from kerbseg.data.formats import read_source, recognize

CLASSES = ["background", "house", "door", "crowd"]


def flat(points):
    return [value for point in points for value in point]


def entry(id, category, segmentation, image=1, **more):
    return {"id": id, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, **more}


def file(annotations, names=("a.png",)):
    return {
        "info": {"year": 2026},
        "images": [
            {"id": i, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(names, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "house"}, {"id": 7, "name": "door"}, {"id": 9, "name": "crowd"}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with a picture; `annotations/instances_default.json` is to be written."""
    picture(tmp_path / "images" / "a.png")
    return tmp_path


def labels(root: Path, annotations, **more) -> Path:
    return write(root / "annotations" / "instances_default.json", file(annotations, **more))


def test_polygons_the_smaller_before_the_larger(root):
    labels(root, [entry(1, 7, [flat(DOOR)]), entry(2, 3, [flat(HOUSE), flat(PARTLY_OUT)])])
    expected = painted([(inside(HOUSE) | inside(PARTLY_OUT), 1), (inside(DOOR), 2)])
    assert recognize(root) == ("coco",)
    assert (masks("coco", root, CLASSES)["images/a"] == expected).all()


def test_run_lengths_plain_and_as_text(root):
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    house, door = inside(HOUSE), inside(DOOR)
    text = coco.encode(np.asfortranarray(door.astype(np.uint8)))["counts"].decode()
    plain = {"counts": runs_by_column(house), "size": list(SIZE)}
    labels(root, [entry(1, 7, {"counts": text, "size": list(SIZE)}), entry(2, 3, plain)])
    assert (masks("coco", root, CLASSES)["images/a"] == painted([(house, 1), (door, 2)])).all()


def test_a_crowd_lies_beneath_all(root):
    crowd = {"counts": runs_by_column(inside(DOOR)), "size": list(SIZE)}
    labels(root, [entry(1, 3, [flat(HOUSE)]), entry(2, 9, crowd, iscrowd=1)])
    assert (masks("coco", root, CLASSES)["images/a"] == painted([(inside(DOOR), 3), (inside(HOUSE), 1)])).all()


def test_what_has_no_mask_is_left_out_and_counted(root):
    key_points = entry(3, 3, [], keypoints=[1, 2, 2], bbox=[1, 1, 5, 5])
    no_key = {"id": 4, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5]}
    labels(root, [entry(1, 3, [], bbox=[1, 1, 5, 5]), entry(2, 3, None), key_points, no_key])
    assert left_out("coco", root) == {"boxes without a mask": 3, "keypoints without a mask": 1}
    assert not masks("coco", root, CLASSES)["images/a"].any()


def test_splits_are_those_of_the_files_and_other_jsons_are_not_read(root):
    for split, name in (("train2017", "b.png"), ("val2017", "c.png")):
        picture(root / split / name)
        write(root / "annotations" / f"instances_{split}.json", file([], names=(name,)))
        write(root / "annotations" / f"person_keypoints_{split}.json", file([], names=(name,)))
    entries = read_source("coco", root).entries
    assert [(each.name, each.split) for each in entries] == [("train2017/b", "train"), ("val2017/c", "val")]


def test_the_layout_of_roboflow_with_one_name_in_two_splits(tmp_path):
    for folder in ("train", "valid", "test"):
        picture(tmp_path / folder / "a.png")
        write(tmp_path / folder / "_annotations.coco.json", file([]))
    entries = read_source("coco", tmp_path).entries
    assert {each.split: each.picture.parent.name for each in entries} == {
        "train": "train",
        "val": "valid",
        "test": "test",
    }


def test_one_file_may_be_named(root):
    path = labels(root, [entry(1, 3, [flat(HOUSE)])])
    write(root / "annotations" / "instances_more.json", "{")
    assert (masks("coco", path, CLASSES)["images/a"] == inside(HOUSE)).all()


def test_a_path_of_another_machine_is_looked_for_by_its_end(root):
    picture(root / "other" / "a.png")
    for name in ("/home/ann/images/a.png", "C:\\data\\images\\a.png"):
        labels(root, [], names=(name,))
        assert read_source("coco", root).entries[0].picture == root / "images" / "a.png"


GOOD = file([entry(5, 3, [flat(HOUSE)])])
BROKEN = {
    "a polygon of two points": (
        ["annotations", 0, "segmentation"],
        [[1, 1, 2, 2]],
        r"annotations\[0\] \(id 5\): a poly",
    ),
    "an odd polygon": (["annotations", 0, "segmentation"], [[1, 1, 2, 2, 3, 3, 4]], "7 numbers, not pairs"),
    "a polygon of text": (["annotations", 0, "segmentation"], [["x", 1]], r"annotations\[0\].segmentation.*found 'x'"),
    "lengths too few": (
        ["annotations", 0, "segmentation"],
        {"counts": [3, 4], "size": list(SIZE)},
        r"annotations\[0\] \(id 5\): run lengths for 7 pixels where the mask has 1200",
    ),
    "a text too short": (["annotations", 0, "segmentation"], {"counts": "52", "size": list(SIZE)}, "for 7 pixels"),
    "a mask of another size": (
        ["annotations", 0, "segmentation"],
        {"counts": [4], "size": [2, 2]},
        "a mask of 2x2 on a picture of 40x30",
    ),
    "an unknown class": (["annotations", 0, "category_id"], 4, r"category_id 4 is none of the categories \(3, 7, 9\)"),
    "an unknown picture": (["annotations", 0, "image_id"], 4, "image_id 4 is none of the images"),
    "a missing picture": (["images", 0, "file_name"], "b.png", r"images\[0\] \(id 1\): picture 'b.png' is not in"),
    "a path outside": (["images", 0, "file_name"], "../../b.png", "'../../b.png' lies outside"),
    "an absolute path": (["images", 0, "file_name"], "/etc/b.png", "'/etc/b.png' is not in"),
    "no file name": (["images", 0, "file_name"], "", "picture '' is not in"),
    "a name too long": (["images", 0, "file_name"], "x" * 9999 + ".png", "is not in"),
    "a name of zeros": (["images", 0, "file_name"], "\0.png", "is not in"),
    "an endless picture": (["images", 0, "height"], 10**9, r"images\[0\] \(id 1\): a picture of 40x1000000000"),
    "no height": (["images", 0], {"id": 1, "file_name": "a.png"}, r"images\[0\].height: field required"),
    "no categories": (["categories"], None, "categories: .*found None"),
    "two pictures of one id": (["images"], GOOD["images"] * 2, "image id 1 stands twice"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_with_its_entry(root, case):
    path, value, says = BROKEN[case]
    document = copy.deepcopy(GOOD)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    write(root / "annotations" / "instances_default.json", document)
    with pytest.raises(DataError, match=says) as caught:
        read_source("coco", root)
    assert "instances_default.json" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 11_000


@pytest.mark.parametrize(
    "text", ["{", "", '{"images": [], "annotations": [], "categories"', "[" * 100_000, '{"a": NaN}']
)
def test_what_is_no_json_is_named(root, text):
    path = write(root / "annotations" / "instances_default.json", text)
    with pytest.raises(DataError, match=r"instances_default\.json"):
        read_source("coco", path)


def test_numbers_that_are_none_are_refused(root):
    write(
        root / "annotations" / "instances_default.json",
        """{"images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}], "categories": [],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, NaN, 4, 5, 6]]}]}""",
    )
    with pytest.raises(DataError, match=r"annotations\[0\]"):
        read_source("coco", root)


def test_a_file_without_pictures_is_named(root):
    labels(root, [], names=())
    with pytest.raises(DataError, match="holds no marked picture in format coco"):
        read_source("coco", root)


def test_a_name_that_two_pictures_have_is_told(root):
    labels(root, [])
    shutil.copytree(root / "images", root / "more")
    with pytest.raises(DataError, match=r"picture 'a.png' may be .*images.a\.png or .*more.a\.png"):
        read_source("coco", root)
