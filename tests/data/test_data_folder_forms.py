"""Masks of colors, names of classes as plain text, and a split that is drawn: each is read as dataset.yaml says."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.dataset_yaml import read_labels
from kerbseg.data.doctor import examine_all

COLORS = """
masks: color
classes:
  - {name: road, color: [128, 64, 128]}
  - {name: vehicle, colors: [[0, 0, 142], '#000046'], color: [9, 9, 9]}
  - {name: sky, colors: [[70, 130, 180]]}
ignore: [[0, 0, 0]]
"""
PALETTE = [(128, 64, 128), (0, 0, 142), (0, 0, 70), (9, 9, 9), (70, 130, 180), (0, 0, 0)]
TRAIN_IDS = np.array([0, 1, 1, 1, 2, VOID], np.uint8)


def write(root: Path, names: list[str], yaml: str) -> np.ndarray:
    """Pictures of 12x18 and masks of blocks of all colors; gives the masks' train ids."""
    which = np.arange(6).reshape(2, 3).repeat(6, 0).repeat(6, 1)
    for index, name in enumerate(names):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(index).integers(0, 256, (12, 18, 3), np.uint8)
            pixels = noise if kind == "images" else np.array(PALETTE, np.uint8)[which]
            Image.fromarray(pixels).save(root / kind / f"{name}.{suffix}")
    (root / "dataset.yaml").write_text(yaml)
    return TRAIN_IDS[which]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_become_train_ids(tmp_path: Path, mode: str) -> None:
    expected = write(tmp_path, ["train/a", "val/b"], COLORS)
    path = tmp_path / "masks" / "train" / "a.png"
    with Image.open(path) as mask:
        stored = mask.quantize(6) if mode == "P" else mask.convert(mode)
    stored.save(path)
    train = open_dataset("folder", "train", tmp_path)
    assert (train[0].mask == expected).all()
    assert train.labels.classes == ("road", "vehicle", "sky")
    assert train.labels.colors == ((128, 64, 128), (9, 9, 9), (70, 130, 180))
    assert examine_all("folder", tmp_path).healthy


def test_an_unknown_color_is_named_with_file_and_pixel(tmp_path: Path) -> None:
    write(tmp_path, ["train/a"], COLORS)
    path = tmp_path / "masks" / "train" / "a.png"
    with Image.open(path) as mask:
        mask.putpixel((7, 3), (128, 64, 127))
        mask.putpixel((8, 9), (128, 64, 127))
        mask.save(path)
    with pytest.raises(DataError, match=r"a\.png: 2 pixels .*\(\(128, 64, 127\) x2; the first at row 3, column 7\)"):
        open_dataset("folder", "train", tmp_path)[0]
    (problem,) = (each for each in examine_all("folder", tmp_path).problems if each.kind == "unknown")
    assert "(128, 64, 127)" in problem.text


def test_names_alone_are_classes(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [road, {name: sky, color: '#0000ff'}, vehicle]")
    labels = read_labels(tmp_path / "dataset.yaml")
    assert labels.classes == ("road", "sky", "vehicle")
    assert labels.file_ids == {0: 0, 1: 1, 2: 2}
    assert labels.colors[1] == (0, 0, 255)


def test_a_split_is_drawn_by_drives(tmp_path: Path) -> None:
    names = [f"walk{drive}/{frame:03}" for drive in range(5) for frame in range(4)]
    expected = write(tmp_path, names, COLORS.replace("masks: color", "masks: color\nsplit: 0.8"))
    assert splits("folder", tmp_path) == ("train", "val")
    train, val = (open_dataset("folder", split, tmp_path) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    assert {*train.names} | {*val.names} == {*names}
    assert not {name.partition("/")[0] for name in train.names} & {name.partition("/")[0] for name in val.names}
    assert (val[0].mask == expected).all()
    assert list(open_dataset("folder", "val", tmp_path).names) == list(val.names)
    assert examine_all("folder", tmp_path).healthy


def test_flat_pictures_without_a_split_are_told_how(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"], COLORS)
    with pytest.raises(DataError, match=r"no folder for a split; .* or write split: 0\.8 into dataset\.yaml"):
        open_dataset("folder", "train", tmp_path)
    (tmp_path / "dataset.yaml").write_text(f"{COLORS}\nsplit: 1\n")
    assert splits("folder", tmp_path) == ("train",)
    assert open_dataset("folder", "train", tmp_path).names == ["a", "b"]
    with pytest.raises(DataError, match="no split 'test'"):
        open_dataset("folder", "test", tmp_path)


def test_a_partner_that_is_missing_is_told_of_a_drawn_split_too(tmp_path: Path) -> None:
    write(tmp_path, [f"{i}" for i in range(9)], f"{COLORS}\nsplit: 0.5\n")
    (tmp_path / "masks" / "8.png").unlink()
    with pytest.raises(DataError, match=r"1 picture\(s\) without mask, the first is .*8\.jpg"):
        open_dataset("folder", "train", tmp_path)


def test_a_split_that_is_there_is_not_drawn_again(tmp_path: Path) -> None:
    write(tmp_path, ["train/a", "val/b"], f"{COLORS}\nsplit: 0.5\n")
    with pytest.raises(DataError, match=r"draws a split, but .*train is one; remove split"):
        splits("folder", tmp_path)


TWO = "classes: [a, b]\n"
WRONG = {
    f"{TWO}split: 2": r"split must be the share of pictures .*, found 2",
    f"{TWO}split: 0": r"split must be the share of pictures",
    f"{TWO}split: yes": r"split must be the share of pictures",
    f"{TWO}masks: colour": r"masks must be ids or color, found 'colour'",
    f"{TWO}masks: color": r"classes\[0\] \(a\) has no color, and masks hold colors",
    "classes: [{name: a, colors: [[1, 2, 3]]}, b]": r"classes\[0\]\.colors are for masks of colors; add masks: color",
    "masks: color\nclasses: [{name: a, color: [1, 2, 3], ids: [1]}, b]": r"classes\[0\] \(a\) has ids, but masks hold",
    "masks: color\nclasses: [{name: a, color: [1, 2, 3]}, {name: b, colors: [[1, 2, 3]]}]": (
        r"classes\[1\] \(b\) has color \(1, 2, 3\), which is that of 'a'"
    ),
    "masks: color\nclasses: [{name: a, color: [1, 2, 3]}, {name: b, color: [3, 2, 1]}]\nignore: [[1, 2, 3]]": (
        r"color \(1, 2, 3\) in ignore belongs to class 'a' too"
    ),
    "masks: color\nclasses: [{name: a, color: [1, 2, 3]}, {name: b, color: [3, 2, 1]}]\nignore: [255]": (
        r"ignore\[0\] must be a list of colors such as \[\[0, 0, 0\]\] .*, found 255"
    ),
    "masks: color\nclasses: [{name: a, colors: []}, b]": r"classes\[0\]\.colors must be a list of colors .*found \[\]",
    "masks: color\nclasses: [{name: a, colors: [red]}, b]": r"classes\[0\]\.colors must be a list of colors",
    f"{TWO}ignore: [256]": r"ignore\[0\] must be a list of ids 0\.\.255 such as \[3, 7\], found 256",
}


@pytest.mark.parametrize("text", WRONG)
def test_slip_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"dataset\.yaml: {WRONG[text]}") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
