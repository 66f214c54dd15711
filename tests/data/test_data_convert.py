"""What is converted is a data set that the doctor passes, with the marks' classes and the pictures' bytes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, splits
from kerbseg.data.convert import convert
from kerbseg.data.dataset_yaml import read_labels
from kerbseg.data.doctor import examine_all
from kerbseg.data.formats import FORMATS, advice

SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12]]
SIZE = (24, 32)


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


def labels(path: Path, image: str, *shapes: tuple[str, list[list[int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in shapes]
    document = {"shapes": rows, "imagePath": image, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    path.write_text(json.dumps(document))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten pictures of five drives, labelled with Labelme; the last has no shape."""
    root = tmp_path / "labelled"
    for i in range(10):
        name = f"drive{i // 2}_{i:03}"
        picture(root / f"{name}.jpg", i)
        labels(
            root / f"{name}.json", f"{name}.jpg", *[("car", SQUARE), ("road", [[14, 2], [30, 2], [30, 20]])][: 9 - i]
        )
    return root


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "labelled")


def test_a_data_set_of_ones_own(source: Path, tmp_path: Path) -> None:
    made = convert("labelme", source, tmp_path / "streets")
    assert made.pictures == {"train": 8, "val": 2}
    assert made.labels.classes == ("background", "car", "road")
    assert made.warnings == ["note: 1 picture(s) without a shape: all background"]
    report = examine_all("folder", tmp_path / "streets")
    assert report.healthy, [problem.text for problem in report.problems]
    assert [split.pictures for split in report.splits] == [8, 2]
    train = open_dataset("folder", "train", tmp_path / "streets")
    assert train.labels.name == "streets"
    for index, name in enumerate(train.names):
        mask = train[index].mask
        assert (mask[2:12, 2:12] == (0 if name.endswith("009") else 1)).all()
        assert (tmp_path / "streets" / "images" / "train" / f"{name}.jpg").read_bytes() == (
            source / f"{name}.jpg"
        ).read_bytes()
    assert len({name.partition("_")[0] for name in train.names}) == 4, "whole drives"
    assert sum(made.pixels.values()) + made.void == 10 * SIZE[0] * SIZE[1]


def test_masks_show_the_colors_of_their_classes(source: Path, tmp_path: Path) -> None:
    made = convert("labelme", source, tmp_path / "streets")
    assert made.labels.background == {"background"}
    assert read_labels(tmp_path / "streets" / "dataset.yaml") == made.labels
    with Image.open(tmp_path / "streets" / "masks" / "train" / f"{made_name(tmp_path)}.png") as mask:
        assert mask.mode == "P"
        assert mask.convert("RGB").getpixel((5, 5)) == made.labels.colors[1]


def made_name(tmp_path: Path) -> str:
    return open_dataset("folder", "train", tmp_path / "streets").names[0]


def test_the_same_seed_gives_the_same_data_set(source: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        convert("labelme", source, tmp_path / name, share=0.5, seed=seed)
    files = {
        name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in "abc"
    }
    assert files["a"] == files["b"]
    assert files["a"].keys() != files["c"].keys()


def test_a_map_joins_classes(source: Path, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text("car: thing\nroad: thing\nbackground: nothing\n")
    made = convert("labelme", source, tmp_path / "streets", class_map=tmp_path / "map.yaml")
    assert made.labels.classes == ("thing", "nothing")
    (tmp_path / "map.yaml").write_text("car: thing\nroad: other\nbackground: ignore\n")
    made = convert("labelme", source, tmp_path / "more", class_map=tmp_path / "map.yaml")
    assert made.void > 0
    assert (open_dataset("folder", "val", tmp_path / "more")[0].mask == VOID).any()
    assert examine_all("folder", tmp_path / "more").healthy


def test_splits_of_the_source_stay_unless_one_is_asked_for(source: Path, tmp_path: Path) -> None:
    for index, path in enumerate(sorted(source.glob("*.jpg"))):
        folder = source / ("train", "valid", "test")[index % 3]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
        path.with_suffix(".json").rename(folder / f"{path.stem}.json")
    made = convert("labelme", source, tmp_path / "streets")
    assert made.pictures == {"train": 4, "val": 3, "test": 3}
    assert not made.drawn
    assert (tmp_path / "streets" / "images" / "train" / "drive0_000.jpg").is_file()
    redrawn = convert("labelme", source, tmp_path / "redrawn", share=0.5)
    assert redrawn.drawn
    assert redrawn.pictures["test"] == 3
    assert 3 <= redrawn.pictures["train"] <= 4


def test_all_may_be_for_training(source: Path, tmp_path: Path) -> None:
    assert convert("labelme", source, tmp_path / "streets", share=1).pictures == {"train": 10}
    assert splits("folder", tmp_path / "streets") == ("train",)


def test_names_with_dots_and_letters_of_all_sorts(tmp_path: Path) -> None:
    root = tmp_path / "labelled"
    for i, name in enumerate(("a.b.c", "straße 1", "日本", "a.b")):
        picture(root / f"{name}.PNG", i)
        labels(root / f"{name}.json", f"{name}.PNG", ("no", SQUARE), ('say "yes": #1', [[0, 0], [1, 0], [1, 1]]))
    convert("labelme", root, tmp_path / "streets")
    train = open_dataset("folder", "train", tmp_path / "streets")
    assert train.labels.classes == ("background", "no", 'say "yes": #1')
    assert {*train.names, *open_dataset("folder", "val", tmp_path / "streets").names} == {
        "a.b.c",
        "straße 1",
        "日本",
        "a.b",
    }


def spoil_picture(source: Path) -> None:
    path = source / "drive4_008.jpg"
    path.write_bytes(path.read_bytes()[:300])


def spoil_size(source: Path) -> None:
    picture(source / "drive4_008.jpg", 1, (32, 24))


def spoil_points(source: Path) -> None:
    labels(source / "drive4_008.json", "drive4_008.jpg", ("car", SQUARE[:2]))


def spoil_reference(source: Path) -> None:
    labels(source / "drive4_008.json", "drive3_007.jpg", ("car", SQUARE))


def spoil_name(source: Path) -> None:
    picture(source / "drive3_007.png", 1)
    labels(source / "drive4_008.json", "drive3_007.png", ("car", SQUARE))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_picture, r"drive4_008\.jpg cannot be read as a picture"),
        (spoil_size, r"drive4_008\.json: made for 24x32, but .*drive4_008\.jpg is 32x24 \(HxW\)"),
        (spoil_points, r"drive4_008\.json: shapes\[0\] \(car\): a polygon of 2"),
        (spoil_reference, r"drive4_008\.json: its picture .*drive3_007\.jpg is marked in .*drive3_007\.json too"),
        (spoil_name, r"drive3_007\.png and .*drive3_007\.jpg would have one name, drive3_007"),
    ],
)
def test_a_broken_source_leaves_nothing_behind(source: Path, tmp_path: Path, spoil, says: str) -> None:
    spoil(source)
    with pytest.raises(DataError, match=says):
        convert("labelme", source, tmp_path / "streets")
    assert left_behind(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(source: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(KerbsegError, match=r"cannot write .*streets: No space left on device"):
        convert("labelme", source, tmp_path / "streets")
    assert left_behind(tmp_path) == []


def test_what_is_there_is_not_touched(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "streets"
    out.mkdir()
    convert("labelme", source, out)  # an empty folder is as good as none
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(KerbsegError, match="streets is there already; choose another folder"):
        convert("labelme", source, out)
    with pytest.raises(KerbsegError, match="is there already"):
        convert("labelme", source, out / "dataset.yaml")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_new_folder_has_the_mode_of_any_other(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    convert("labelme", source, tmp_path / "new" / "streets")
    assert os.stat(tmp_path / "new" / "streets").st_mode == os.stat(tmp_path / "other").st_mode


def test_a_picture_in_two_splits_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "yolo" / "images" / "a.jpg", 0)
    picture(tmp_path / "yolo" / "images" / "b.jpg", 1)
    (tmp_path / "yolo" / "data.yaml").write_text("train: images\nval: images\nnames: [car]\n")
    with pytest.raises(DataError, match=r"a\.jpg is in both train and val; draw a split: --split 0\.8"):
        convert("yolo", tmp_path / "yolo", tmp_path / "streets")
    for name in "ab":
        (tmp_path / "yolo" / "labels").mkdir(exist_ok=True)
        (tmp_path / "yolo" / "labels" / f"{name}.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    assert convert("yolo", tmp_path / "yolo", tmp_path / "streets", share=0.5).pictures == {"train": 1, "val": 1}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "my streets", tmp_path / "figures.json"
    main(["convert", "labelme", str(source), "-o", str(out), "--split", "0.6", "--seed", "1", "--json", str(figures)])
    printed = capsys.readouterr().out
    assert "6 train, 4 val pictures (a split that was drawn)" in " ".join(printed.split())
    assert f"next: kerbseg doctor '{out}'\n" in printed
    written = json.loads(figures.read_text())
    assert written["pictures"] == {"train": 6, "val": 4}
    assert sum(written["shares"].values()) == pytest.approx(1)


def test_the_command_refuses_in_one_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "streets"
    assert "did you mean 'labelme'" in refused(capsys, "convert", "labelmee", source, "-o", out)
    assert "does not exist" in refused(capsys, "convert", "labelme", source / "none", "-o", out)
    said = refused(capsys, "convert", "coco", source, "-o", out)
    assert f"it looks like labelme: kerbseg convert labelme {source} -o my_streets" in said
    assert "is no share" in refused(capsys, "convert", "labelme", source, "-o", out, "--split", "1.5")
    assert left_behind(tmp_path) == []


def test_the_doctor_says_what_a_folder_looks_like(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "doctor", "folder", "--data-root", source)
    assert f"it looks like labelme: kerbseg convert labelme {source} -o my_streets" in said
    with pytest.raises(SystemExit):
        main(["doctor", str(source)])
    captured = capsys.readouterr()
    assert captured.out == f"next: kerbseg convert labelme {source} -o my_streets\n"
    assert "it looks like labelme" in captured.err
    (tmp_path / "mine").mkdir()
    assert "mine is empty" in refused(capsys, "doctor", tmp_path / "mine")
    assert advice(tmp_path / "none") == ""
    assert all(each.on_disk for each in FORMATS.values())


def test_classes_that_were_never_drawn_are_left_out(source: Path, tmp_path: Path) -> None:
    for path in source.glob("*.json"):
        path.write_text(path.read_text().replace('"car"', '"vehicle"').replace(str(SQUARE), "[[0, 0], [0, 9], [0, 5]]"))
    made = convert("labelme", source, tmp_path / "streets")
    assert made.labels.classes == ("background", "road")
    assert "note: no pixel is of vehicle: left out of the classes" in made.warnings
    train = open_dataset("folder", "train", tmp_path / "streets")
    assert train.labels.classes == ("background", "road")
    assert (train[0].mask[3:10, 25:29] == 1).all()
    (tmp_path / "map.yaml").write_text("vehicle: vehicle\nroad: road\nbackground: ignore\n")
    made = convert("labelme", source, tmp_path / "mapped", class_map=tmp_path / "map.yaml")
    assert made.labels.classes == ("vehicle", "road"), "a map says which classes there are"
    assert "note: no pixel is of vehicle" in made.warnings
    for path in source.glob("*.json"):
        path.write_text(path.read_text().replace('"road"', '"background"'))
    with pytest.raises(DataError, match="only class 'background' has pixels, and two are needed"):
        convert("labelme", source, tmp_path / "none")


# ---- read where they lie


def test_a_source_is_a_data_set_where_it_lies(source: Path, tmp_path: Path) -> None:
    convert("labelme", source, tmp_path / "streets")
    assert splits("labelme", source) == ("train", "val")
    for split in ("train", "val"):
        here, converted = open_dataset("labelme", split, source), open_dataset("folder", split, tmp_path / "streets")
        assert list(here.names) == list(converted.names)
        assert here.labels.classes == converted.labels.classes
        for index in range(len(here)):
            assert (here[index].mask == converted[index].mask).all()
            assert (here[index].image == converted[index].image).all()
    with pytest.raises(DataError, match="data set 'labelme' has no split 'test'"):
        open_dataset("labelme", "test", source)


def test_classes_without_a_mark_are_left_out_where_they_lie_too(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / "images" / f"{name}.jpg", 0)
    (tmp_path / "data.yaml").write_text("train: images\nnames: [car, tram]\n")
    (tmp_path / "labels").mkdir()
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    assert open_dataset("yolo", "train", tmp_path).labels.classes == ("background", "car")


def test_a_map_beside_counts_for_both(source: Path, tmp_path: Path) -> None:
    (source / "map.yaml").write_text("car: thing\nroad: thing\nbackground: nothing\n")
    assert open_dataset("labelme", "train", source).labels.classes == ("thing", "nothing")
    assert convert("labelme", source, tmp_path / "streets").labels.classes == ("thing", "nothing")


def test_the_doctor_lists_what_is_broken_where_it_lies(source: Path) -> None:
    spoil_size(source)
    path = source / "drive0_000.jpg"
    path.write_bytes(path.read_bytes()[:300])
    texts = " | ".join(problem.text for problem in examine_all("labelme", source).problems)
    assert "drive4_008.json: made for 24x32, but" in texts
    assert "drive0_000.jpg cannot be read as a picture" in texts


def test_the_doctor_says_what_was_left_out(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(source / "more.jpg", 0)
    main(["doctor", "labelme", "--data-root", str(source)])
    assert capsys.readouterr().out.count("note: left out: 1 pictures without labels") == 1


def test_a_picture_that_a_camera_turned_and_the_tool_did_not_is_told(source: Path, tmp_path: Path) -> None:
    path = source / "drive0_000.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as stored:
        stored.save(path, exif=exif)
    with pytest.raises(
        DataError, match=r"made for 24x32, but .* is 32x24 \(HxW\); its EXIF turns it, and the tool did not"
    ):
        convert("labelme", source, tmp_path / "streets")


def test_through_a_link_to_an_empty_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "streets").symlink_to(tmp_path / "disk")
    convert("labelme", source, tmp_path / "streets")
    assert (tmp_path / "streets").is_symlink()
    assert (tmp_path / "disk" / "dataset.yaml").is_file()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_a_data_set(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("nothing")
    with pytest.raises(DataError, match=str(tmp_path)):
        open_dataset(name, "train", tmp_path)
