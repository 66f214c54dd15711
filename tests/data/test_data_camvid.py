"""CamVid in both layouts gives the 11 classes of SegNet's split."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.camvid import release_colors, split_stems


@pytest.fixture(params=[("701_StillsRaw_full", "LabeledApproved_full"), ("images", "labels")])
def release_root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A made-up release with the pictures of val, and two of another split; every color stands in every label."""
    images, labels = (tmp_path / folder for folder in request.param)
    images.mkdir()
    labels.mkdir()
    colors = np.array(list(release_colors()), np.uint8).reshape(4, 8, 3)
    for i, stem in enumerate((*split_stems()["val"], *split_stems()["test"][:2])):
        Image.fromarray(np.full((4, 8, 3), i, np.uint8)).save(images / f"{stem}.png")
        Image.fromarray(colors).save(labels / f"{stem}_L.png")
    return tmp_path


def test_segnet_layout(camvid_root: Path) -> None:
    train = open_dataset("camvid", "train", camvid_root)
    assert (train.name, train.split, train.labels.name, len(train)) == ("camvid", "train", "camvid", 4)
    sample = train[1]
    assert sample.name == "train_001"
    assert sample.image.shape == (32, 48, 3)
    assert sample.image.dtype == sample.mask.dtype == np.uint8
    stored = np.array(Image.open(camvid_root / "trainannot" / "train_001.png"))
    assert np.array_equal(sample.mask, np.where(stored == 11, VOID, stored))
    assert (sample.mask == VOID).any()
    picture = np.array(Image.open(camvid_root / "train" / "train_001.png"))
    assert np.array_equal(sample.image, picture)


def test_samples_do_not_change(camvid_root: Path) -> None:
    one, other = (open_dataset("camvid", "val", camvid_root)[0] for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)


def test_split_lists_are_segnets() -> None:
    stems = split_stems()
    assert {split: len(names) for split, names in stems.items()} == {"train": 367, "val": 101, "test": 233}
    assert len({name for names in stems.values() for name in names}) == 701


def test_release_has_32_colours_of_11_classes() -> None:
    colors = release_colors()
    assert len(colors) == 32
    assert set(colors.values()) == {*range(11), VOID}
    assert [color for color, train_id in colors.items() if train_id == VOID] == [(0, 0, 0)]


def test_release_is_grouped_as_by_segnet() -> None:
    """The colors beside each class's own, as the 11-class CamVid is commonly built from the 32."""
    grouped = {
        "building": [(192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)],  # archway, bridge, tunnel, wall
        "pole": [(0, 0, 64)],  # traffic cone
        "road": [(128, 0, 192), (192, 0, 64)],  # lane markings
        "pavement": [(64, 192, 128), (128, 128, 192)],  # parking block, shoulder
        "tree": [(192, 192, 0)],  # other vegetation
        "sign_symbol": [(128, 128, 64), (0, 64, 64)],  # text, traffic light
        "car": [(64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],  # SUV, truck, train, other
        "pedestrian": [(192, 128, 64), (64, 0, 192), (64, 128, 64)],  # child, pram, animal
        "bicyclist": [(192, 0, 192)],  # motorcycle
    }
    labels, colors = label_set("camvid"), release_colors()
    for name, others in grouped.items():
        train_id = labels.classes.index(name)
        found = {color for color, other in colors.items() if other == train_id}
        assert found == {labels.colors[train_id], *others}, name


def test_release_keeps_the_colours_of_the_label_set(camvid_root: Path) -> None:
    labels = open_dataset("camvid", "train", camvid_root).labels
    for train_id, color in enumerate(labels.colors):
        assert release_colors()[color] == train_id


def test_release_is_split_by_name(release_root: Path) -> None:
    val = open_dataset("camvid", "val", release_root)
    assert len(val) == 101
    assert [val[i].name for i in range(3)] == list(split_stems()["val"][:3])
    assert val[0].mask.ravel().tolist() == list(release_colors().values())
    assert splits("camvid", release_root) == ("train", "val", "test")


def test_release_that_is_incomplete_is_refused(release_root: Path) -> None:
    with pytest.raises(DataError, match=r"lacks 231 of the 233 pictures of split 'test'.*unpack the whole release"):
        open_dataset("camvid", "test", release_root)


def test_release_mask_missing(release_root: Path) -> None:
    gone = next(release_root.glob(f"*/{split_stems()['val'][5]}_L.png"))
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 picture\(s\) without mask, the first is .*{split_stems()['val'][5]}\.png"):
        open_dataset("camvid", "val", release_root)


def test_unknown_colour_is_told_with_place_and_number(release_root: Path) -> None:
    path = next(release_root.glob(f"*/{split_stems()['val'][0]}_L.png"))
    pixels = np.array(Image.open(path))
    pixels[2, 3:5] = (9, 8, 7)
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=r"_L\.png: 2 pixels .*\(\(9, 8, 7\) x2; the first at row 2, column 3\)"):
        open_dataset("camvid", "val", release_root)[0]


def test_segnet_layout_goes_first_where_both_lie(camvid_root: Path) -> None:
    (camvid_root / "images").mkdir()
    assert len(open_dataset("camvid", "val", camvid_root)) == 2


def test_unknown_split_names_the_nearest(camvid_root: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'vall'; did you mean 'val'\?"):
        open_dataset("camvid", "vall", camvid_root)


def test_roots_that_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"data root .*nowhere does not exist; check --data-root"):
        open_dataset("camvid", "train", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is empty; unpack data set 'camvid' there"):
        open_dataset("camvid", "train", tmp_path)
    (tmp_path / "readme.txt").touch()
    for look in (lambda: open_dataset("camvid", "train", tmp_path), lambda: splits("camvid", tmp_path)):
        with pytest.raises(DataError, match=r"holds no CamVid: neither train/ .* check --data-root"):
            look()
    monkeypatch.delenv("KERBSEG_DATA", raising=False)
    with pytest.raises(DataError, match=r"pass --data-root or set KERBSEG_DATA"):
        open_dataset("camvid", "train")
    with pytest.raises(DataError, match=r"unknown data set 'camvidd'; did you mean 'camvid'\?"):
        open_dataset("camvidd", "train", tmp_path)


def test_root_comes_from_the_environment(camvid_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERBSEG_DATA", str(camvid_root.parent))
    assert len(open_dataset("camvid", "test")) == 2


def test_mask_folder_missing(camvid_root: Path) -> None:
    (camvid_root / "valannot").rename(camvid_root / "elsewhere")
    with pytest.raises(DataError, match=r"valannot does not exist; check --data-root and the split"):
        open_dataset("camvid", "val", camvid_root)


@pytest.mark.camvid
def test_real_split_equals_the_lists(camvid_data: Path) -> None:
    for split, stems in split_stems().items():
        real = open_dataset("camvid", split, camvid_data)
        assert [real[i].name for i in (0, len(real) - 1)] == [stems[0], stems[-1]]
        assert len(real) == len(stems)
