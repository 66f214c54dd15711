"""The doctor lists every fault of a data set, and its figures are those of a plain count."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID, samples
from kerbseg.data import DATASETS, SPLITS, open_dataset
from kerbseg.data.doctor import examine, examine_all, on_terminal, render
from kerbseg.data.loading import Resized
from kerbseg.data.report import DatasetReport
from kerbseg.data.statistics import class_frequencies, enet_weights, median_frequency_weights


def shown(checkup: DatasetReport) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(render(checkup))
    return capture.get()


def change(path: Path, value: int | tuple[int, ...], row: int = 0, column: int = 0) -> None:
    pixels = np.array(Image.open(path))
    pixels[row, column] = value
    Image.fromarray(pixels).save(path)


def test_figures_are_those_of_a_plain_count(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)
    masks = [sample.mask for sample in samples(dataset)]
    found = examine(dataset)
    assert found.pictures == 4
    assert found.sizes == {(32, 48): 4}
    assert found.pixels == tuple(sum(int((mask == i).sum()) for mask in masks) for i in range(11))
    assert found.containing == tuple(sum(bool((mask == i).any()) for mask in masks) for i in range(11))
    assert found.void == sum(int((mask == VOID).sum()) for mask in masks)
    assert found.void_share == found.void / (4 * 32 * 48)
    assert sum(found.shares) + found.void_share == pytest.approx(1)
    assert not found.problems


def test_class_frequencies_agree_with_the_doctor(camvid_root: Path) -> None:
    dataset = open_dataset("camvid", "train", camvid_root)
    counts, void = class_frequencies(dataset)
    found = examine(dataset)
    assert (tuple(counts.tolist()), void) == (found.pixels, found.void)
    assert found.class_weights["enet c=1.02"] == tuple(enet_weights(counts, void, 1.02))
    assert found.class_weights["median_frequency power=0.12"] == tuple(median_frequency_weights(counts, 0.12))


def test_enet_weights_count_void_in_the_share() -> None:
    weights = enet_weights(np.array([60, 20, 0]), 20, 1.10)
    assert weights == pytest.approx([1 / np.log(1.7), 1 / np.log(1.3), 1 / np.log(1.1)])


def test_enet_weights_give_erfnets_list() -> None:
    # the authors' decoder list and the shares that follow from it, c = 1.10 (printed to four digits)
    shares = np.array([0.3265, 0.0539, 0.2020, 0.1409, 0.0355])
    counts = (shares * 1e6).astype(np.int64)
    weights = enet_weights(counts, 1_000_000 - int(counts.sum()), 1.10)
    assert weights == pytest.approx([2.8149, 6.9850, 3.7890, 4.6323, 7.8698], rel=2e-3)


def test_median_weights_start_at_one_and_drop_absent_classes() -> None:
    weights = median_frequency_weights(np.array([99, 9, 0, 399, 4]), 1.0)
    assert weights == pytest.approx([10 / 100, 1, 0, 10 / 400, 2])
    assert median_frequency_weights(np.array([99, 9, 0, 399, 4]), 0.12) == pytest.approx(
        [0.1**0.12, 1, 0, 0.025**0.12, 2**0.12]
    )


def test_weights_of_nothing_are_finite() -> None:
    assert np.isfinite(enet_weights(np.zeros(3, np.int64), 0, 1.02)).all()
    assert (median_frequency_weights(np.zeros(3, np.int64), 0.12) == 0).all()


def test_healthy_data_set(camvid_root: Path) -> None:
    checkup = examine_all("camvid", camvid_root, track=on_terminal)
    assert checkup.healthy
    assert [found.split for found in checkup.splits] == ["train", "val", "test"]
    figures = json.loads(json.dumps(checkup.to_dict(), allow_nan=False))
    assert figures["healthy"] is True
    assert figures["splits"]["val"]["sizes"] == [{"height": 32, "width": 48, "pictures": 2}]
    assert figures["splits"]["train"]["classes"]["sky"]["pictures"] == 4
    assert set(figures["splits"]["train"]["class_weights"]) == {
        "enet c=1.02",
        "enet c=1.10",
        "median_frequency power=0.12",
        "median_frequency power=1",
    }
    text = shown(checkup)
    assert "healthy" in text
    assert "bicyclist" in text


def test_every_fault_is_listed(camvid_root: Path) -> None:
    """All at once, where loading would stop at the first."""
    change(camvid_root / "trainannot" / "train_000.png", 77, 3, 5)
    change(camvid_root / "trainannot" / "train_001.png", 77)
    change(camvid_root / "trainannot" / "train_002.png", 88)
    Image.new("L", (20, 20)).save(camvid_root / "trainannot" / "train_003.png")
    (camvid_root / "val" / "val_000.png").write_bytes(b"no picture")
    (camvid_root / "valannot" / "val_001.png").write_bytes(b"")
    (camvid_root / "testannot" / "test_000.png").unlink()
    (camvid_root / "test" / "test_001.png").unlink()
    checkup = examine_all("camvid", camvid_root)
    kinds = sorted(problem.kind for problem in checkup.problems)
    assert kinds == [*["partner"] * 2, "size", *["unknown"] * 2, *["unreadable"] * 2]
    text = " | ".join(problem.text for problem in checkup.problems)
    assert "value 77 is outside label set 'camvid': 2 pixels in 2 mask(s), the first in" in text
    assert "train_000.png at row 3, column 5" in text
    assert "value 88 is outside label set 'camvid': 1 pixels in 1 mask(s)" in text
    assert "train_003.png is 20x20 but picture" in text
    assert "val_000.png cannot be read as a picture" in text
    assert "val_001.png cannot be read as a picture" in text
    assert "1 picture(s) without mask, the first is" in text
    assert "test_000.png; add the mask or remove the picture" in text
    assert "1 mask(s) without picture, the first is" in text
    assert "test_001.png; add the picture or remove the mask" in text
    assert not checkup.healthy
    assert all(problem.text in shown(checkup).replace("\n", "") for problem in checkup.problems[:1])
    unknown = checkup.to_dict()["splits"]["train"]["unknown"]
    assert [(Path(found["file"]).name, found["value"], found["row"]) for found in unknown] == [
        ("train_000.png", "77", 3),
        ("train_001.png", "77", 0),
        ("train_002.png", "88", 0),
    ]


def test_unknown_pixels_are_no_void(camvid_root: Path) -> None:
    before = examine(open_dataset("camvid", "val", camvid_root))
    path = camvid_root / "valannot" / "val_000.png"
    ids = np.array(Image.open(path))
    change(path, 77)
    after = examine(open_dataset("camvid", "val", camvid_root))
    assert after.void == before.void - (ids[0, 0] == 11)
    assert after.labelled_pixels == before.labelled_pixels


def test_picture_in_two_splits_is_a_leak(camvid_root: Path) -> None:
    """A copy is found in another format and under another name too."""
    picture = Image.open(camvid_root / "train" / "train_002.png")
    (camvid_root / "val" / "val_001.png").unlink()
    picture.save(camvid_root / "val" / "val_001.bmp")
    checkup = examine_all("camvid", camvid_root)
    assert [problem.kind for problem in checkup.problems] == ["leak"]
    expected = "splits train and val share 1 picture(s), such as train/train_002 = val/val_001; keep each picture in"
    assert expected in checkup.problems[0].text
    assert "leak" in shown(checkup)


def test_copy_within_a_split_is_a_note(camvid_root: Path) -> None:
    source = camvid_root / "train" / "train_000.png"
    (camvid_root / "train" / "train_001.png").write_bytes(source.read_bytes())
    checkup = examine_all("camvid", camvid_root)
    assert checkup.healthy
    assert [copies.places for copies in checkup.copies] == [(("train", "train_000"), ("train", "train_001"))]
    assert "1 picture(s) stand more than once" in shown(checkup)


def test_fine_and_coarse_labels_of_a_picture_are_no_leak(cityscapes_root: Path) -> None:
    checkup = examine_all("cityscapes", cityscapes_root)
    assert checkup.healthy
    assert len(checkup.copies) == 4
    test = next(found for found in checkup.splits if found.split == "test")
    assert (test.pictures, test.unlabelled, test.labelled_pixels) == (4, 4, 0)
    assert "4 (4 without labels)" in shown(checkup)


def test_chosen_splits_only(cityscapes_root: Path) -> None:
    checkup = examine_all("cityscapes", cityscapes_root, ["val"])
    assert [found.split for found in checkup.splits] == ["val"]


def test_sizes_are_counted(folder_root: Path) -> None:
    for kind, mode in (("images/val/000.jpg", "RGB"), ("masks/val/000.png", "L")):
        Image.new(mode, (40, 24)).save(folder_root / kind)
    found = examine(open_dataset("folder", "val", folder_root))
    assert found.sizes == {(24, 40): 1, (32, 48): 1}
    assert found.labels.name == "park"


def test_data_set_that_is_not_of_files(folder_root: Path) -> None:
    drawn = Resized(open_dataset("folder", "train", folder_root), (16, 24))
    found = examine(drawn)
    counts, void = class_frequencies(drawn)
    assert (found.sizes, found.pixels, found.void) == ({(16, 24): 4}, tuple(counts.tolist()), void)
    assert len(found.fingerprints) == 4


def test_every_data_set_lists_its_splits() -> None:
    assert DATASETS.keys() == SPLITS.keys()


def test_names_in_brackets_are_shown_as_they_are(folder_root: Path) -> None:
    path = folder_root / "dataset.yaml"
    path.write_text(path.read_text().replace("name: grass", "name: '[red]'"))
    assert "[red]" in shown(examine_all("folder", folder_root))


def test_split_whose_folder_is_wrong_is_a_problem(camvid_root: Path) -> None:
    (camvid_root / "valannot").rename(camvid_root / "vallabels")
    checkup = examine_all("camvid", camvid_root)
    assert [found.split for found in checkup.splits] == ["train", "test"]
    assert [problem.kind for problem in checkup.problems] == ["layout"]
    assert "valannot does not exist" in shown(checkup)


def test_long_lists_are_cut_and_counted(camvid_root: Path) -> None:
    path = camvid_root / "trainannot" / "train_000.png"
    ids = np.array(Image.open(path))
    ids[0, :30] = np.arange(100, 130)
    Image.fromarray(ids).save(path)
    text = shown(examine_all("camvid", camvid_root))
    assert "... and 10 more problems; --json lists them all" in text
    assert "30 problem(s)" in text


def test_what_cannot_be_examined_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown data set 'camvidx'"):
        examine_all("camvidx", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        examine_all("camvid", tmp_path / "nowhere")


@pytest.mark.camvid
def test_real_camvid_is_healthy(camvid_data: Path) -> None:
    checkup = examine_all("camvid", camvid_data, ["val"])
    (val,) = checkup.splits
    assert checkup.healthy
    assert (val.pictures, val.sizes) == (101, {(360, 480): 101})
    assert val.void_share == pytest.approx(0.0170, abs=1e-4)
