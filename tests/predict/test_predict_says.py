"""The command says what it sees in each picture, writes what is asked for, and notes what the ids mean."""

import io
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from kerbseg.bundle import Bundle, BundleCard, save
from kerbseg.cli import main
from kerbseg.cli.terminal import progress
from kerbseg.core.display import display_palette
from kerbseg.core.errors import InputError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import Preprocessing
from kerbseg.data.masks import read_ids
from kerbseg.models import create_model
from kerbseg.predict import (
    Frame,
    PictureReport,
    Prediction,
    Predictor,
    Style,
    predict_files,
    segment_video,
    write_classes,
)
from kerbseg.predict.shares import share_words, shares
from kerbseg.predict.viewer import open_file

LABELS = label_set("camvid")
WORDS = ["ids", "palette", "color", "overlay", "side", "confidence", "json"]


@pytest.fixture
def street(tmp_path):
    """Two pictures of noise, one of them in a subfolder."""
    generator = np.random.default_rng(0)
    for name in ("street/a.png", "street/north/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (32, 48, 3), np.uint8)).save(tmp_path / name)
    return tmp_path / "street"


@pytest.fixture
def predict(camvid_bundle, street, tmp_path, monkeypatch):
    """The exit status of the command, in an empty folder, with the picture and more arguments."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments, inputs=("street/a.png",), model=camvid_bundle):
        try:
            main(["predict", str(model), *inputs, *map(str, arguments)])
        except SystemExit as left:
            return left.code
        return 0

    return run


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def report(name="street.jpg", ms=57.2, **shares):
    return PictureReport(name, name, (), (360, 480), shares or {"road": 0.24, "car": 0.06, "sky": 0.001}, ms)


# ---- a line a picture


def test_a_line_says_name_size_classes_and_time():
    assert str(report()) == "street.jpg  360x480  road 24 %  car 6 %  57 ms"
    assert report(ms=3.14).line(name_columns=12).startswith("street.jpg    360x480  road")
    assert report(ms=3.14).line().endswith("  3.1 ms")


@pytest.mark.parametrize("name", ["x" * 300, "街" * 60 + ".png", "a/b/" * 30 + "street.jpg", "\x1b]0;title\a.png"])
def test_a_line_fits_a_terminal_whatever_the_names(name):
    named = {f"{'class of a long name ' * 4}{i}": 0.1 for i in range(10)}
    for each in (named, {"道路" * 40: 1.0}, {f"c{i}": 0.01 for i in range(100)}):
        line = report(name, **each).line(80, 32)
        assert cell_len(line) <= 80
        assert line.isprintable()
        assert " %  " in line


def test_of_a_long_name_the_end_is_shown():
    assert "…" in str(report("drive" * 20 + "_000123.png"))
    assert "_000123.png  360x480" in str(report("drive" * 20 + "_000123.png"))


def test_shares_are_of_the_largest_first_and_of_what_there_is_room_for():
    ids = np.array([[0, 0, 3, 8]], np.uint8)
    assert list(shares(ids, LABELS).items())[:3] == [("sky", 0.5), ("road", 0.25), ("car", 0.25)]
    assert len(shares(ids, LABELS)) == len(LABELS)
    said = {"road": 0.5, "car": 0.4849, "pole": 0.0051, "sky": 0.005}
    assert share_words(said, 80) == "road 50 %  car 48 %  pole 1 %"
    assert share_words(said, 20) == "road 50 %  car 48 %"
    assert share_words(said, 18) == "road 50 %"
    assert share_words({"building": 1.0}, 10) == "bui… 100 %"
    assert share_words({}, 80) == ""


def test_the_command_says_each_picture_and_then_the_totals(predict, capsys):
    assert predict("-o", "out", "--recursive", "--json", "all.json", inputs=["street"]) == 0
    first, second, totals = capsys.readouterr().out.splitlines()
    assert first.startswith("a.png  32x48  ")
    assert second.startswith("north/b.png  32x48  ")
    assert " %  " in first
    assert first.endswith(" ms")
    assert totals.startswith("2 pictures, median ")
    assert totals.endswith(" a second with reading and writing; results in out")
    document = json.loads(Path("all.json").read_text())
    assert [each["input"] for each in document["pictures"]] == ["street/a.png", "street/north/b.png"]
    picture = document["pictures"][1]
    assert picture["files"] == ["out/north/b_ids.png", "out/north/b_overlay.png"]
    assert picture["size"] == [32, 48]
    assert picture["ms"] > 0
    ids = np.asarray(Image.open("out/north/b_ids.png"))
    assert picture["shares"] == {name: np.mean(ids == i) for i, name in enumerate(LABELS.classes)}
    assert document["videos"] == []
    assert document["failed"] == {}


def test_quiet_says_nothing(predict, capsys):
    assert predict("-q") == 0
    assert capsys.readouterr() == ("", "")
    assert names("predictions") == ["a_ids.png", "a_overlay.png", "classes.json"]


def test_what_was_finished_is_counted_where_some_failed(predict, street, capsys):
    (street / "c.png").write_bytes(b"none")
    assert predict("-o", "out", inputs=["street"]) == 1
    said = capsys.readouterr()
    assert "1 picture, median" in said.out
    assert "1 of 2 inputs could not be segmented" in said.err.splitlines()[-1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_stand_above_the_bar_on_a_terminal_and_alone_in_a_log(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, log = Terminal(), io.StringIO()
    for out in (terminal, log):
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", out)
        for i in progress([1, 2]):
            print(f"line {i}")
        monkeypatch.undo()
        monkeypatch.setenv("TERM", "xterm")
    assert log.getvalue() == "line 1\nline 2\n"
    assert terminal.getvalue().count("line 1") == 1
    assert "\x1b[2Kline 1\n" in terminal.getvalue().replace("\r", ""), "the bar was taken away before it"


# ---- --save


def test_all_that_can_be_saved_is_what_it_is_called(predict, camvid_bundle):
    assert predict("-o", "out", "--save", ",".join(WORDS)) == 0
    results = [f"a_{'shares.json' if word == 'json' else f'{word}.png'}" for word in WORDS]
    assert names("out") == sorted([*results, "classes.json"])
    prediction = Predictor(camvid_bundle)("street/a.png", confidence=True)
    ids, palette, color, overlay, side, confidence = (Image.open(f"out/{name}") for name in results[:-1])
    assert (ids.mode, palette.mode) == ("L", "P")
    for file in (ids, palette):
        np.testing.assert_array_equal(np.asarray(file), prediction.ids)
    np.testing.assert_array_equal(np.asarray(palette.convert("RGB")), np.asarray(color))
    np.testing.assert_array_equal(np.asarray(color), LABELS.palette[prediction.ids])
    np.testing.assert_array_equal(np.asarray(overlay), np.asarray(prediction.overlay()))
    np.testing.assert_array_equal(np.asarray(side), np.asarray(prediction.side()))
    np.testing.assert_array_equal(np.asarray(confidence), (prediction.confidence * 255).round())
    [frame] = json.loads(Path("out/a_shares.json").read_text())["frames"]
    assert frame["shares"] == prediction.shares()
    assert frame["size"] == [32, 48]


def test_both_forms_of_ids_are_read_right_by_our_own_readers_and_gray_ones_by_others(bright, tmp_path):
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    picture = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    prediction = Predictor(bright)(picture)
    gray, palette = prediction.save(tmp_path / "a", ["ids", "palette"])
    for path in (gray, palette):
        np.testing.assert_array_equal(read_ids(path), prediction.ids)
    for how in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED):
        np.testing.assert_array_equal(cv2.imread(str(gray), how), prediction.ids)
        assert not np.array_equal(cv2.imread(str(palette), how), prediction.ids), "so ids are no palette PNG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--save", "id"], "did you mean 'ids'"),
        (["--save", ","], "--save names nothing"),
        (["--save", "ids", "--sink", "ids"], "give one of them"),
        (["--alpha", "1.5"], "alpha is 1.5"),
        (["--alpha", "nan"], "alpha is nan"),
        (["--save", "frames,palette", "-o", "street/a.png"], "is a file"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(predict, capsys, arguments, says):
    before = names(".")
    assert predict(*arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert names(".") == before


def test_a_runtime_without_confidence_is_told_in_one_line_and_leaves_nothing(bright, street, tmp_path):
    with pytest.raises(KerbsegError, match=r"^made gives class ids without confidence; use the bundle"):
        predict_files(Predictor(bright), [street], tmp_path / "out", sinks=["ids", "confidence"])
    assert not (tmp_path / "out").exists()


def test_overlays_look_as_it_is_said(predict, camvid_bundle):
    assert predict("-o", "out", "--save", "overlay,side", "--alpha", "1", "--no-legend") == 0
    overlay, side = (np.asarray(Image.open(f"out/a_{word}.png")) for word in ("overlay", "side"))
    prediction = Predictor(camvid_bundle)("street/a.png")
    np.testing.assert_array_equal(overlay, np.asarray(prediction.overlay(1, legend=False)))
    assert (overlay.shape, side.shape) == ((32, 48, 3), (32, 100, 3))
    np.testing.assert_array_equal(side[:, :48], prediction.picture)
    np.testing.assert_array_equal(side[:, 52:], overlay)


def test_a_prediction_saves_what_is_asked_for(bright, tmp_path):
    prediction = Predictor(bright)(np.zeros((32, 48, 3), np.uint8))
    assert [path.name for path in prediction.save(tmp_path / "a")] == ["a_ids.png", "a_overlay.png"]
    assert [path.name for path in prediction.save(tmp_path / "b.1", "palette")] == ["b.1_palette.png"]
    paths = prediction.save(tmp_path / "c", ["overlay", "json"], Style(alpha=0, legend=False))
    assert not np.asarray(Image.open(paths[0])).any()
    assert json.loads(paths[1].read_text())["frames"][0]["shares"]["sky"] == 1
    bare = Prediction(prediction.ids, LABELS)
    for what, why in [("mask", "choose from: ids"), ("confidence", "no confidence"), (["ids", "side"], "its picture")]:
        with pytest.raises(InputError, match=why):
            bare.save(tmp_path / "d", what)
    assert not list(tmp_path.glob("d*"))


# ---- classes.json, and where results go


def other_classes(tmp_path):
    labels = LabelSet("two", ("way", "rest"), ((128, 64, 128), (0, 0, 0)))
    card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), (32, 48), 2)
    save(Bundle(create_model("mininet_v2_cpu", 2).eval(), card), tmp_path / "two.safetensors")
    return tmp_path / "two.safetensors"


def test_the_classes_are_noted_beside_the_results(predict):
    assert predict("-o", "out") == 0
    document = json.loads(Path("out/classes.json").read_text())
    assert [each["name"] for each in document["classes"]] == list(LABELS.classes)
    assert document["classes"][3] == {
        "id": 3,
        "name": "road",
        "color": list(LABELS.colors[3]),
        "display_color": display_palette(LABELS)[3].tolist(),
        "background": False,
    }
    assert document["void"] == 255
    assert document["labels"] == "camvid"
    assert document["model"] == "mininet_v2_cpu"
    assert "kerbseg" in document["versions"]


def test_results_of_other_classes_do_not_come_into_one_folder(predict, tmp_path, capsys):
    two = other_classes(tmp_path)
    assert predict("-o", "out") == predict("-o", "out") == 0
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    capsys.readouterr()
    assert predict("-o", "out", model=two) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "results of other classes lie in out (sky, building, pole ...; classes.json says so)" in error
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_without_a_folder_they_go_where_no_results_of_other_classes_lie(predict, tmp_path, capsys):
    two = other_classes(tmp_path)
    Path("predictions").mkdir()
    Path("predictions/mine.txt").write_text("mine")
    for model in (None, two, None, two):
        assert (predict(model=model) if model else predict()) == 0
    ours = ["a_ids.png", "a_overlay.png", "classes.json"]
    assert names("predictions") == [*ours, "mine.txt"]
    assert names("predictions2") == ours
    assert "results in predictions2\n" in capsys.readouterr().out
    assert not Path("predictions3").exists()


@pytest.mark.parametrize("theirs", ['{"classes": ["mine"]}', "no JSON", "[1]", ""])
def test_a_file_of_that_name_that_is_not_ours_stays(tmp_path, theirs):
    (tmp_path / "classes.json").write_text(theirs)
    with pytest.warns(KerbsegWarning, match=r"classes\.json is not of kerbseg and stays as it is"):
        assert write_classes(tmp_path, LABELS) is None
    assert (tmp_path / "classes.json").read_text() == theirs


def test_the_note_is_no_input_and_is_written_by_a_function_too(bright, street):
    assert write_classes(street, LABELS) == street / "classes.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_files(Predictor(bright), [street / "north"], street / "north")
        write_classes(street / "north", LABELS)
        predict_files(Predictor(bright), [street / "north"], street / "north")


# ---- --show


def test_without_a_display_nothing_is_shown_and_all_is_written(predict, capsys):
    assert predict("-o", "out", "--show") == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "there is no display here" in error
    assert "a_overlay.png" in error
    assert predict("-o", "out", "--show", "--save", "json") == 0
    assert "nothing that can be looked at was written; add overlay" in capsys.readouterr().err
    assert names("out") == ["a_ids.png", "a_overlay.png", "a_shares.json", "classes.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have openers of their own")
def test_the_first_result_is_opened_and_nobody_waits_for_the_viewer(predict, tmp_path, monkeypatch):
    viewer, pipe = tmp_path / "bin" / "xdg-open", tmp_path / "pipe"
    viewer.parent.mkdir()
    os.mkfifo(pipe)
    viewer.write_text(f'#!/bin/sh\necho "$1" > {pipe}\n')  # waits until someone reads
    viewer.chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setenv("PATH", f"{viewer.parent}:{os.environ['PATH']}")
    assert predict("-o", "out", "--show", "--recursive", inputs=["street"]) == 0
    assert pipe.read_text() == f"{tmp_path}/out/a_overlay.png\n"


def test_a_machine_without_a_viewer_is_told(bright, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KerbsegError, match="no program that opens pictures"):
        open_file(tmp_path / "a.png")
    with pytest.raises(KerbsegError, match="no program that opens pictures"):
        Predictor(bright)(np.zeros((32, 48, 3), np.uint8)).show()


# ---- videos


def frames():
    for i in range(3):
        yield Frame(np.full((32, 48, 3), 120 * (i > 0) + 10, np.uint8), i, 40_000_000 * i)


def test_a_video_has_its_shares_and_its_size(bright, tmp_path):
    result = segment_video(frames(), Predictor(bright), tmp_path, sinks="json")
    assert result.size == (32, 48)
    assert list(result.shares)[:2] == ["building", "sky"]
    assert result.shares["building"] == pytest.approx(2 / 3)
    assert "3 frames" in str(result)
    assert "building 67 %  sky 33 %" in str(result)
    assert result.to_dict()["shares"] == result.shares


def test_of_a_video_the_words_are_videos_and_ids_without_loss(predict, video_file, camvid_bundle):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    video_file(Path("drive.mkv"), frames=3, codec="ffv1")
    words = "ids,palette,overlay,side,color,json"
    assert predict("-o", "out", "--save", words, "--json", "all.json", inputs=["drive.mkv"]) == 0
    videos = ["drive_color.mp4", "drive_overlay.mp4", "drive_side.mp4"]
    assert names("out") == sorted(["classes.json", "drive_ids", "drive_palette", "drive_shares.json", *videos])
    predictor = Predictor(camvid_bundle)
    with av.open("drive.mkv") as file:
        for i, frame in enumerate(file.decode(video=0)):
            expected = predictor(frame.to_ndarray(format="rgb24")).ids
            for folder in ("drive_ids", "drive_palette"):
                np.testing.assert_array_equal(np.asarray(Image.open(f"out/{folder}/{i:06}.png")), expected)
    sizes = {name: size_of(av, f"out/{name}") for name in videos}
    assert sizes == {"drive_color.mp4": (32, 48), "drive_overlay.mp4": (32, 48), "drive_side.mp4": (32, 100)}
    [figures] = json.loads(Path("all.json").read_text())["videos"]
    assert sum(figures["shares"].values()) == pytest.approx(1)
    assert figures["size"] == [32, 48]


def test_a_videos_legend_stands_still_below_its_frames(bright, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    segment_video(frames(), Predictor(bright), tmp_path, style=Style(alpha=0, legend=True))
    with av.open(str(tmp_path / "frames_overlay.mp4")) as file:
        shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(shown) == 3
    assert len({picture.shape for picture in shown}) == 1
    height, width, _ = shown[0].shape
    assert height > 32
    assert width == 48
    below = [picture[34:].astype(int) for picture in shown]
    assert below[0].std() > 10, "there is something"
    assert np.abs(below[0] - below[2]).mean() < 4


def test_frames_of_a_video_can_be_pictures(predict, video_file):
    video_file(Path("drive.mkv"), frames=2, codec="ffv1")
    assert predict("-o", "out", "--save", "frames", inputs=["drive.mkv", "street/a.png"]) == 0
    assert names("out") == ["a_overlay.png", "classes.json", "drive_overlay"]
    assert names("out/drive_overlay") == ["000000.png", "000001.png"]


def size_of(av, path):
    with av.open(path) as file:
        stream = file.streams.video[0]
        return stream.height, stream.width
