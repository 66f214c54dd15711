"""Cityscapes is read as downloaded; labelIds become train ids."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits


@pytest.mark.parametrize("split", ["train", "val", "train_extra", "train_coarse"])
def test_split_holds_all_cities_in_order(cityscapes_root: Path, split: str) -> None:
    dataset = open_dataset("cityscapes", split, cityscapes_root)
    names = [dataset[i].name for i in range(len(dataset))]
    assert len(names) == 4
    assert names == sorted(names)
    assert all(name.endswith("_000019") for name in names)


def test_train_ids_are_the_benchmarks(cityscapes_root: Path) -> None:
    sample = open_dataset("cityscapes", "train", cityscapes_root)[0]
    path = cityscapes_root / "gtFine" / "train" / "aachen" / f"{sample.name}_gtFine_labelIds.png"
    stored = np.array(Image.open(path))
    assert set(np.unique(stored)) == {*range(34), 255}  # licence plate is -1, stored as 255
    for label in official:
        wanted = label.trainId if 0 <= label.trainId < 19 else VOID
        assert (sample.mask[stored == label.id % 256] == wanted).all(), label.name


def test_coarse_and_fine_show_the_same_pictures(cityscapes_root: Path) -> None:
    path = min(cityscapes_root.glob("gtCoarse/train/aachen/*_labelIds.png"))
    Image.fromarray(np.full((32, 64), 7, np.uint8)).save(path)
    fine, coarse = (open_dataset("cityscapes", split, cityscapes_root)[0] for split in ("train", "train_coarse"))
    assert fine.name == coarse.name
    assert np.array_equal(fine.image, coarse.image)
    assert (coarse.mask == 0).all()
    assert not (fine.mask == 0).all()


def test_test_split_is_void_without_labels(cityscapes_root: Path) -> None:
    sample = open_dataset("cityscapes", "test", cityscapes_root)[0]
    assert sample.mask.shape == (32, 64)
    assert (sample.mask == VOID).all()


def test_test_split_may_have_dummy_labels(cityscapes_root: Path) -> None:
    for picture in cityscapes_root.glob("leftImg8bit/test/*/*.png"):
        path = cityscapes_root / "gtFine/test" / picture.parent.name
        path.mkdir(parents=True, exist_ok=True)
        name = picture.name.replace("_leftImg8bit", "_gtFine_labelIds")
        Image.fromarray(np.full((32, 64), 3, np.uint8)).save(path / name)
    assert (open_dataset("cityscapes", "test", cityscapes_root)[0].mask == VOID).all()


def test_splits_are_those_on_disk(cityscapes_root: Path) -> None:
    assert splits("cityscapes", cityscapes_root) == ("train", "val", "test", "train_extra", "train_coarse")
    shutil.rmtree(cityscapes_root / "gtCoarse")
    assert splits("cityscapes", cityscapes_root) == ("train", "val", "test")


def test_unknown_id_is_told(cityscapes_root: Path) -> None:
    path = min(cityscapes_root.glob("gtFine/val/vala/*_labelIds.png"))
    ids = np.array(Image.open(path))
    ids[1, 2:5] = 34
    Image.fromarray(ids).save(path)
    with pytest.raises(
        DataError, match=r"labelIds\.png: 3 pixels .*'cityscapes' \(34 x3; the first at row 1, column 2"
    ):
        open_dataset("cityscapes", "val", cityscapes_root)[0]


def test_picture_without_mask_and_the_reverse(cityscapes_root: Path) -> None:
    mask = min(cityscapes_root.glob("gtFine/val/vala/*_labelIds.png"))
    picture = min(cityscapes_root.glob("leftImg8bit/val/valb/*.png"))
    mask.unlink()
    with pytest.raises(DataError, match=r"1 picture\(s\) without mask, the first is .*vala_000000"):
        open_dataset("cityscapes", "val", cityscapes_root)
    mask.with_name("x.png").write_bytes(b"")  # any other file there is no mask
    picture.unlink()
    min(cityscapes_root.glob("leftImg8bit/val/vala/*_000000_*.png")).unlink()
    with pytest.raises(DataError, match=r"1 mask\(s\) without picture, the first is .*valb"):
        open_dataset("cityscapes", "val", cityscapes_root)


def test_only_label_ids_are_read(cityscapes_root: Path) -> None:
    for path in cityscapes_root.glob("gtFine/val/*/*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(DataError, match=r"holds no masks \*/\*_gtFine_labelIds\.png; unpack gtFine there"):
        open_dataset("cityscapes", "val", cityscapes_root)


def test_folders_that_are_missing(cityscapes_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'train_xtra'; did you mean 'train_extra'\?"):
        open_dataset("cityscapes", "train_xtra", cityscapes_root)
    shutil.rmtree(cityscapes_root / "gtCoarse")
    with pytest.raises(DataError, match=r"gtCoarse.train_extra does not exist"):
        open_dataset("cityscapes", "train_extra", cityscapes_root)
    with pytest.raises(DataError, match=r"holds no Cityscapes: there is no leftImg8bit/; check --data-root"):
        splits("cityscapes", tmp_path)
