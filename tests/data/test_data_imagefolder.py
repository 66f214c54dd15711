"""Folders of pictures by class: parts are drawn by number alone, and slips are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.data.imagefolder import CenterSquares, EpochDraws, RandomSquares, class_loader, open_folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes; the green of a picture tells its column, its red the class."""
    for split in ("train", "val"):
        for label, name in enumerate(("b", "a")):
            for i in range(3):
                pixels = np.zeros((40, 80 + i, 3), np.uint8)
                pixels[..., 0], pixels[..., 1] = 100 * label, np.arange(80 + i)
                path = tmp_path / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


def squares(root: Path, seed: int = 0) -> RandomSquares:
    train, _ = open_folders("pictures", "train", "val", root, None)
    return RandomSquares(train, 16, (0.1, 0.5), (0.75, 4 / 3), seed)


def test_classes_are_folders_in_order_of_their_names(root):
    train, _ = open_folders("pictures", "train", "val", root, None)
    assert train.classes == ("a", "b")
    assert [label for _, label in train.files] == [0, 0, 0, 1, 1, 1]
    assert len(open_folders("pictures", "train", "val", root, 2)[0]) == 4


def test_a_draw_follows_from_its_number_and_the_seed(root):
    one, again, other = squares(root), squares(root), squares(root, seed=1)
    first = one.__getitems__([7, 2])
    assert torch.equal(first["image"], again.__getitems__([7, 2])["image"])
    assert torch.equal(first["image"][1:], again.__getitems__([2])["image"])
    assert not torch.equal(first["image"], other.__getitems__([7, 2])["image"])
    # the same picture in the next epoch looks otherwise
    assert not torch.equal(one.__getitems__([1])["image"], one.__getitems__([7])["image"])
    assert first["label"].tolist() == [0, 0]
    assert first["image"].shape == (2, 3, 16, 16)
    assert first["image"].dtype == torch.uint8


def test_parts_have_the_share_of_the_picture_that_was_asked_for(root):
    spans = []
    for draw in range(0, 300, 6):
        green = squares(root).__getitems__([draw])["image"][0, 1].int()
        spans.append(int(green.max() - green.min()))
    # a square of a tenth of 40x80 is 18 wide, one of half is 40; wider and narrower ones are drawn too
    assert 10 < min(spans) < 25
    assert 30 < max(spans) < 50


def test_the_middle_is_looked_at_for_validation(root):
    _, val = open_folders("pictures", "train", "val", root, None)
    green = CenterSquares(val, 35).__getitems__([0])["image"][0, 1]
    assert (int(green.min()), int(green.max())) == (23, 57)  # 35 of 80 columns, from 22.5 on


def test_epochs_show_every_picture_once_in_another_order(root):
    order = EpochDraws(6, seed=0)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == list(range(6))
    assert sorted(second) == list(range(6, 12))
    assert [draw - 6 for draw in second] != first
    labels = [batch["label"] for batch in class_loader(squares(root), 4, 0, seed=0)]
    assert [len(label) for label in labels] == [4]


def test_slips_are_named(root):
    with pytest.raises(DataError, match="6 training pictures are fewer than batch_size=7"):
        class_loader(squares(root), 7, 0, seed=0)
    with pytest.raises(DataError, match="test does not exist"):
        open_folders("pictures", "train", "test", root, None)
    (root / "val" / "c").mkdir()
    with pytest.raises(DataError, match="c holds no pictures"):
        open_folders("pictures", "train", "val", root, None)
    Image.new("RGB", (8, 8)).save(root / "val" / "c" / "x.png")
    with pytest.raises(DataError, match="class 'c' is not in both"):
        open_folders("pictures", "train", "val", root, None)


def test_without_a_root_the_way_out_is_named(monkeypatch):
    monkeypatch.delenv("KERBSEG_DATA", raising=False)
    with pytest.raises(DataError, match="--data-root"):
        open_folders("imagenet", "train", "val", None, None)
