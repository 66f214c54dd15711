"""Data from which nothing can be learned, or on which nothing can be measured, is refused before training."""

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.data import open_dataset
from kerbseg.train.fit import fit
from kerbseg.train.recipe import Data
from kerbseg.train.recipe_file import read
from kerbseg.train.split import CachedSplit, open_split

SMALL = ("data.name=folder", "epochs=1", "batch_size=2", "augment={}", "ema=null")


def blank(root, split, keep=()):
    """Makes every pixel of a split VOID, but those of the masks of some names."""
    for path in (root / "masks" / split).rglob("*.png"):
        if path.stem not in keep:
            Image.fromarray(np.full_like(np.array(Image.open(path)), 255)).save(path)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("cache", ["ram", "none"])
def test_a_split_without_a_labelled_pixel_is_refused_and_leaves_no_run(folder_root, tmp_path, split, cache):
    blank(folder_root, split)
    with pytest.raises(DataError, match=f"folder {split}: no pixel of [24] pictures belongs to a class") as caught:
        fit(read("smoke/scenes", SMALL), tmp_path / "run", data_root=folder_root, device="cpu", cache=cache)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_labelled_picture_is_enough(folder_root):
    blank(folder_root, "train", keep={"003"})
    assert CachedSplit(open_dataset("folder", "train", folder_root), "none").labelled()
    blank(folder_root, "train")
    assert not CachedSplit(open_dataset("folder", "train", folder_root), "none").labelled()


def test_validation_has_a_size_and_a_part_of_its_own(folder_root):
    data = Data("folder", size=(24, 40), val_size=(20, 30), val_crop=(10, 12), resample="lanczos")
    assert open_split(data, ["train"], folder_root, "none").size == (24, 40)
    seen = open_split(data, ["val"], folder_root, "none", validates=True)
    assert seen.size == (10, 12)
    whole = Image.fromarray(open_dataset("folder", "val", folder_root)[0].image)
    small = np.array(whole.resize((30, 20), Image.Resampling.LANCZOS))[5:15, 9:21]
    assert np.array_equal(seen.batches.__getitems__([0])["image"][0].permute(1, 2, 0).numpy(), small)
    assert open_split(Data("folder", size=(24, 40)), ["val"], folder_root, "none", validates=True).size == (24, 40)
