"""YOLO's polygons become the masks that rays count; broken lines are named by file and number."""

import shutil
from pathlib import Path

import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside, left_out, masks, painted, picture, write

from kerbseg.core.errors import DataError
from kerbseg.data.formats import read_source, recognize

CLASSES = ["background", "house", "door"]
YAML = "path: {path}\ntrain: images/train\nval: images/val\nnc: 2\nnames: [house, door]\n"


def line(number, points):
    return " ".join([str(number), *(f"{x / SIZE[1]:.9f} {y / SIZE[0]:.9f}" for x, y in points)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of two pictures, the second without labels."""
    picture(tmp_path / "images" / "train" / "a.png")
    picture(tmp_path / "images" / "val" / "b.png")
    write(tmp_path / "labels" / "train" / "a.txt", f"{line(1, DOOR)}\n\n{line(0, HOUSE)}\n")
    write(tmp_path / "data.yaml", YAML.format(path="."))
    return tmp_path


def test_polygons_the_smaller_before_the_larger(root):
    assert recognize(root) == ("yolo",)
    made = masks("yolo", root, CLASSES)
    assert (made["images/train/a"] == painted([(inside(HOUSE), 1), (inside(DOOR), 2)])).all()
    assert not made["images/val/b"].any()
    assert [each.split for each in read_source("yolo", root).entries] == ["train", "val"]


def test_a_polygon_that_leaves_the_picture(root):
    write(root / "labels" / "train" / "a.txt", line(0, PARTLY_OUT))
    assert (masks("yolo", root, CLASSES)["images/train/a"] == inside(PARTLY_OUT)).all()


def test_boxes_are_left_out(root):
    write(root / "labels" / "train" / "a.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.1 0.1")
    assert left_out("yolo", root) == {"boxes without a mask": 2}


@pytest.mark.parametrize("path", [".", "", "/data/of/another/machine", "../datasets/mine"])
def test_the_path_of_another_machine_does_not_matter(root, path):
    write(root / "data.yaml", YAML.format(path=path))
    assert len(read_source("yolo", root).entries) == 2


def test_the_layout_of_roboflow(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.png")
        write(tmp_path / split / "labels" / "a.txt", line(0, HOUSE))
    write(tmp_path / "data.yaml", "train: ../train/images\nval: ../valid/images\nnames: {0: house, 1: door}\n")
    made = masks("yolo", tmp_path, CLASSES)
    assert set(made) == {"train/images/a", "valid/images/a"}
    assert all((mask == inside(HOUSE)).all() for mask in made.values())


def test_a_text_may_list_the_pictures(root):
    write(root / "data.yaml", "train: train.txt\nnames: [house, door]\n")
    write(root / "train.txt", "./images/train/a.png\n\n/elsewhere/images/val/b.png\n")
    assert [each.name for each in read_source("yolo", root).entries] == ["images/train/a", "images/val/b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2 0.1 0.1 0.5 0.1 0.5 0.5", r"class 2 is none of the names \(0, 1\)"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "class -1 is none"),
        ("0.5 0.1 0.1 0.5 0.1 0.5 0.5", "class 0.5 is none"),
        ("nan 0.1 0.1 0.5 0.1 0.5 0.5", "class nan is none"),
        ("0 0.1 0.1 0.5", "3 numbers, not pairs"),
        ("0 0.1 0.1", r"a polygon of 1 point\(s\)"),
        ("0", r"a polygon of 0 point\(s\)"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.6", "7 numbers, not pairs"),
        ("0 0.1 0.1 0.5 0.1 0.5 nan", "no place in a picture"),
        ("0 10 10 50 10 50 50", "a corner at 50, where fractions 0..1 are"),
        ("house 0.1 0.1 0.5 0.1 0.5 0.5", "is no line of numbers"),
    ],
)
def test_a_broken_line_is_named(root, text, says):
    write(root / "labels" / "train" / "a.txt", f"{line(0, HOUSE)}\n{text}")
    with pytest.raises(DataError, match=rf"a\.txt:2: .*{says}"):
        read_source("yolo", root)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: images/train\nnames: [a", "no valid YAML"),
        ("train: images/train\n", "names: field required"),
        ("train: 3\nnames: [a]", "train: .*found 3"),
        ("train: images/tarin\nnames: [a]", "train: 'images/tarin' does not exist in"),
        ("train: ../../pictures\nnames: [a]", "train: '../../pictures' lies outside"),
        ("train: /pictures\nnames: [a]", "train: '/pictures' lies outside"),
        ("train: images/train\nkpt_shape: [17, 3]\nnames: [a]", "describes keypoints"),
        ("names: [a]", "names no pictures"),
        ("- a", "the file"),
    ],
)
def test_a_broken_yaml_is_named(root, text, says):
    path = write(root / "data.yaml", text)
    with pytest.raises(DataError, match=rf"data\.yaml.*{says}"):
        read_source("yolo", path)


def test_a_listed_picture_that_is_missing_is_named(root):
    write(root / "data.yaml", "train: train.txt\nnames: [house, door]\n")
    for name, says in (("c.png", "is not in"), ("../../c.png", "lies outside")):
        write(root / "train.txt", f"images/train/a.png\n{name}\n")
        with pytest.raises(DataError, match=rf"train\.txt:2: picture .*{says}"):
            read_source("yolo", root)


def test_without_a_yaml(root):
    (root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"has no data\.yaml \(but no \.yaml\)"):
        read_source("yolo", root)
    write(root / "street.yaml", YAML.format(path="."))
    assert len(read_source("yolo", root).entries) == 2
    shutil.copy(root / "street.yaml", root / "other.yaml")
    with pytest.raises(DataError, match=r"\(but other\.yaml, street\.yaml\); name the \.yaml file"):
        read_source("yolo", root)
