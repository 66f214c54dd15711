"""Minicity is read as the challenge arranges it, and is not mistaken for Cityscapes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits


@pytest.fixture
def minicity_root(cityscapes_root: Path) -> Path:
    """The made-up Cityscapes, whose splits have as few pictures."""
    return cityscapes_root


@pytest.mark.parametrize("split", ["train", "val"])
def test_split_holds_all_cities_with_train_ids(minicity_root: Path, split: str) -> None:
    dataset = open_dataset("minicity", split, minicity_root)
    assert len(dataset) == 4
    assert (dataset.name, dataset.labels.name) == ("minicity", "cityscapes")
    for i in range(4):
        sample = dataset[i]
        assert sample.name.endswith(f"_{i:06}_000019")
        path = next(minicity_root.glob(f"gtFine/{split}/*/{sample.name}_gtFine_labelIds.png"))
        stored = np.array(Image.open(path))
        assert (sample.mask[stored == 7] == 0).all()  # road
        assert (sample.mask[stored == 33] == 18).all()  # bicycle
        assert (sample.mask[stored == 3] == VOID).all()


def test_test_split_has_labels_only_where_they_lie_there(minicity_root: Path) -> None:
    assert (open_dataset("minicity", "test", minicity_root)[0].mask == VOID).all()
    for picture in minicity_root.glob("leftImg8bit/test/*/*.png"):
        path = minicity_root / "gtFine/test" / picture.parent.name
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 64), 7, np.uint8)).save(
            path / picture.name.replace("_leftImg8bit", "_gtFine_labelIds")
        )
    assert (open_dataset("minicity", "test", minicity_root)[0].mask == 0).all()


def test_the_folder_that_the_challenges_script_makes_is_found(minicity_root: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    shutil.copytree(minicity_root, above / "minicity")
    assert len(open_dataset("minicity", "train", above)) == 4
    assert splits("minicity", above) == ("train", "val", "test")


def test_folders_without_cities_are_fine(minicity_root: Path) -> None:
    for path in list(minicity_root.glob("*/train/*/*")):
        path.rename(path.parent.parent / path.name)
    assert len(open_dataset("minicity", "train", minicity_root)) == 4


def test_the_whole_of_cityscapes_is_not_minicity(minicity_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kerbseg.data.minicity as module

    monkeypatch.setitem(module.SPLITS, "train", 3)
    with pytest.raises(DataError, match=r"holds 4 pictures, Minicity's train has 3; .* arrange Minicity first"):
        open_dataset("minicity", "train", minicity_root)


def test_what_is_missing_is_named(minicity_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'trian'; did you mean 'train'"):
        open_dataset("minicity", "trian", minicity_root)
    min(minicity_root.glob("gtFine/train/*/*_labelIds.png")).unlink()
    with pytest.raises(DataError, match=r"1 picture\(s\) without mask"):
        open_dataset("minicity", "train", minicity_root)
    for path in minicity_root.glob("gtFine/train/*/*_labelIds.png"):
        path.unlink()
    with pytest.raises(DataError, match="holds no masks"):
        open_dataset("minicity", "train", minicity_root)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x").mkdir()
    with pytest.raises(DataError, match="holds no Minicity"):
        splits("minicity", tmp_path / "empty")
