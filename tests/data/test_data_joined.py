"""Data sets of the same classes are one; others are refused with both lists."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.data import open_dataset, splits
from kerbseg.data.doctor import examine_all
from kerbseg.data.drives import drive_of

MAP = "car: vehicle\nbackground: rest\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten pictures each, labelled with YOLO, with COCO and with Labelme, each brought to the same two classes."""
    for name in ("yolo", "coco", "labelme"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        (folder / "map.yaml").write_text(MAP)
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nnames: [car]\n")
    (tmp_path / "yolo" / "labels").mkdir()
    square = [5, 5, 15, 5, 15, 15, 5, 15]
    images, annotations = [], []
    for i in range(10):
        (tmp_path / "yolo" / "labels" / f"{i}.txt").write_text("0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75")
        images.append({"id": i, "file_name": f"{i}.png", "height": 20, "width": 20})
        annotations.append({"id": i, "image_id": i, "category_id": 1, "segmentation": [square], "iscrowd": 0})
        shape = {"label": "car", "points": [[5, 5], [15, 15]], "shape_type": "rectangle"}
        labels = {"shapes": [shape], "imagePath": f"../images/{i}.png"}
        (tmp_path / "labelme" / "labels").mkdir(exist_ok=True)
        (tmp_path / "labelme" / "labels" / f"{i}.json").write_text(json.dumps(labels))
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "coco" / "labels.json").write_text(json.dumps(document))
    return tmp_path


def test_three_are_one(root: Path) -> None:
    train = open_dataset("yolo+coco+labelme", "train", root)
    assert (train.name, train.split, len(train)) == ("yolo+coco+labelme", "train", 24)
    assert train.labels.classes == ("vehicle", "rest")
    assert {drive_of(name) for name in train.names} == {"yolo", "coco", "labelme"}
    for index, name in enumerate(train.names):
        sample = train[index]
        assert sample.name == name
        data, _, own = name.partition("/")
        with Image.open(root / data / "images" / f"{own}.png") as picture:
            assert (np.asarray(picture) == sample.image).all()
        assert (sample.mask[5:15, 5:15] == 0).all()
        assert (sample.mask == 1).sum() == 300
    assert splits("yolo+coco", root) == ("train", "val")


def test_the_doctor_looks_at_all(root: Path) -> None:
    report = examine_all("yolo+labelme", root)
    assert [split.pictures for split in report.splits] == [16, 4]
    (root / "labelme" / "images" / "3.png").write_bytes(b"none")
    assert any("3.png cannot be read" in problem.text for problem in examine_all("yolo+labelme", root).problems)


def test_without_a_root_each_lies_where_it_does_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERBSEG_DATA", str(root))
    assert len(open_dataset("yolo+coco", "val")) == 4


def test_only_splits_that_all_have(root: Path, folder_root: Path) -> None:
    folder_root.rename(root / "folder")
    (root / "folder" / "images" / "val").rename(root / "folder" / "images" / "test")
    assert splits("yolo+folder", root) == ("train",)


def test_classes_that_differ_are_told(root: Path) -> None:
    (root / "coco" / "map.yaml").write_text("background: rest\ncar: vehicle\n")
    with pytest.raises(DataError, match=r"'yolo' and 'coco' have different classes \(vehicle, rest; rest, vehicle\)"):
        open_dataset("yolo+coco", "train", root)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("yolo+cocoo", r"unknown data set 'cocoo'; did you mean 'coco'\?"),
        ("yolo+", "unknown data set ''"),
        ("yolo+yolo", "joins one with itself"),
        ("yolo+kitti", "kitti does not exist"),
    ],
)
def test_a_slip_is_named(root: Path, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_dataset(name, "train", root)
    with pytest.raises(DataError, match=says):
        splits(name, root)
