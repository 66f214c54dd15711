"""`paths` in dataset.yaml: pictures and masks that lie elsewhere are paired by {name}, of the split of {split}."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.data import open_dataset, splits
from kerbseg.data.doctor import examine_all

YAML = """
paths:
  images: {images}
  masks: {masks}
classes: [road, sky]
"""


def write(root: Path, names: dict[str, int], images: str, masks: str, more: str = "") -> None:
    """A gray picture and a mask of one id a name; templates are filled in as the reader is to read them."""
    for name, value in names.items():
        split, _, stem = name.rpartition(":")
        for template, pixels in ((images, np.full((8, 8, 3), 100 + value)), (masks, np.full((8, 8), value))):
            path = root / template.replace("{split}", split).replace("{name}", stem).replace("*", "x7")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    (root / "dataset.yaml").write_text(YAML.format(images=f"'{images}'", masks=f"'{masks}'") + more)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("camera/{split}/{name}.png", "labels/{split}/{name}_label.png"),
        ("{split}/rgb/{name}_rgb.png", "{split}/gt/{name}.png"),
        ("all/{split}_{name}_cam*.png", "all/{split}_{name}_mask.png"),
        ("{name}@{split}.png", "gt/{name}@{split}.png"),
        ("{split}/{name}.png", "{split}/{name}_mask.png"),
        ("{split}/{name}_rgb.png", "{split}/{name}.png"),
    ],
)
def test_pictures_and_masks_are_paired_wherever_they_lie(tmp_path: Path, images: str, masks: str) -> None:
    write(tmp_path, {"train:a": 0, "train:b": 1, "night:c": 1}, images, masks)
    assert splits("folder", tmp_path) == ("train", "night")
    train, night = (open_dataset("folder", split, tmp_path) for split in ("train", "night"))
    assert [(sample.name, sample.image[0, 0, 0], sample.mask[0, 0]) for sample in (train[0], train[1], night[0])] == [
        ("a", 100, 0),
        ("b", 101, 1),
        ("c", 101, 1),
    ]
    assert (len(train), len(night)) == (2, 1)


def test_names_may_hold_folders_and_a_split_is_drawn(tmp_path: Path) -> None:
    names = {f":drive{drive}/{n}": n % 2 for drive in range(5) for n in range(4)}
    write(tmp_path, names, "rgb/{name}.png", "gt/{name}.png", "split: 0.8\n")
    assert splits("folder", tmp_path) == ("train", "val")
    train, val = (open_dataset("folder", split, tmp_path) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    assert len({name.split("/")[0] for name in val.names}) == 1  # one drive, whole
    kinds = {problem.kind for problem in examine_all("folder", tmp_path).problems}
    assert kinds == {"leak"}  # pictures of one gray; nothing lies astray


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"train:a": 0, "train:b": 1}, "rgb/{split}/{name}.png", "gt/{split}/{name}.png")
    (tmp_path / "gt/train/a.png").unlink()
    with pytest.raises(DataError, match=r"1 picture\(s\) without mask, the first is .*rgb/train/a\.png"):
        open_dataset("folder", "train", tmp_path)


def test_two_files_of_one_name_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"train:a": 0}, "rgb/{split}/*_{name}.png", "gt/{split}/{name}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "rgb/train/y8_a.png")
    with pytest.raises(DataError, match=r"x7_a\.png are both 'a'"):
        open_dataset("folder", "train", tmp_path)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ("{images: 'a/{split}.png', masks: 'b/{name}.png'}", r"images needs \{name\} once"),
        ("{images: 'a/{split}/{name}.png', masks: 'b/{name}.png'}", r"\{split\} in one of images and masks"),
        ("{images: '/a/{name}.png', masks: 'b/{name}.png'}", "images must be a path below the folder"),
        ("{images: 'a/{name}.png', masks: '../b/{name}.png'}", "masks must be a path below the folder"),
        ("{images: 'a/{name}.png', masks: 'a/{name}.png'}", "images and masks one place"),
        ("{images: 'a/{name}.npy', masks: 'b/{name}.png'}", r"images must end in \.\* or in the suffix of a picture"),
        ("{images: 'a/{drive}/{name}.png', masks: 'b/{name}.png'}", "images holds braces other than"),
        ("{images: 'a/{name}.png'}", r"paths\.masks must be like"),
        ("{images: 'a/{name}.png', mask: 'b/{name}.png'}", r"unknown key paths\.mask; did you mean 'masks'"),
        ("a/{name}.png", "paths must be like"),
        ("{images: 'a/{name}.png', masks: 'b/{name}.png'}", "split: 0.8"),
        ("{images: '{split}/{name}.png', masks: 'b/{split}/{name}.png'}\nsplit: 0.8", "remove split:"),
    ],
)
def test_a_template_that_cannot_be_followed_is_one_line(tmp_path: Path, paths: str, said: str) -> None:
    for kind in "ab":
        (tmp_path / kind).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / kind / "x.png")
    (tmp_path / "dataset.yaml").write_text(f"paths: {paths}\nclasses: [road, sky]\n")
    with pytest.raises(DataError, match=said) as error:
        open_dataset("folder", "train", tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(YAML.format(images="'a/{split}/{name}.png'", masks="'b/{split}/{name}.png'"))
    with pytest.raises(DataError, match=r"folder .*a does not exist; paths in dataset\.yaml"):
        splits("folder", tmp_path)
