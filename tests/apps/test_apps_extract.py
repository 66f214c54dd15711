"""`kerbseg extract`: which frames are taken, what they are called, and what stays where it ends early."""

import csv

import numpy as np
import pytest
from PIL import Image

import made_bags as made
from kerbseg.apps.extract import EachNth, EachTime, Keyframes, extract, parse_every
from kerbseg.cli import main
from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.keyframes.sequences import open_sequence
from kerbseg.predict.sources import Frame, as_source, open_source

CAMERA = "/cam/image_raw"
SECOND = 10**9


def taken(choice, times):
    chosen = [f for n, time in enumerate(times) for f in choice.add(Frame(np.zeros((2, 2, 3), np.uint8), n, time))]
    return [each.time_ns for each in chosen]


def table(folder):
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_time_takes_the_first_of_each_interval_and_loses_no_step():
    times = [0, 40, 99, 101, 140, 250, 299, 300, 750, 760, 801]
    assert taken(EachTime(100), times) == [0, 101, 250, 300, 750, 801]
    assert taken(EachNth(4), times) == [0, 140, 750]


def test_times_numbers_and_keyframes_are_understood():
    assert parse_every("1s")() == EachTime(SECOND)
    assert parse_every("0.5s")() == parse_every("500ms")() == EachTime(SECOND // 2)
    assert parse_every("2min")() == EachTime(120 * SECOND)
    assert parse_every("10")() == EachNth(10)
    assert isinstance(parse_every("keyframes")(), Keyframes)


@pytest.mark.parametrize("text", ["0", "0s", "1h", "-1s", "1.5", "", "often"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="write a time such as 1s"):
        parse_every(text)


def test_pictures_of_a_bag_are_called_by_their_stamps_and_listed(tmp_path):
    frames = made.pictures(7)
    bag = made.write_mcap(tmp_path / "drive.mcap", {CAMERA: frames})
    report = extract(as_source(bag), tmp_path / "out", parse_every("120ms"))
    rows = table(tmp_path / "out")
    stamps = [made.START + n * made.STEP for n in (0, 3, 6)]
    assert [row["file"] for row in rows] == [f"{stamp}.png" for stamp in stamps]
    assert [int(row["stamp_ns"]) for row in rows] == stamps
    assert [int(row["log_ns"]) for row in rows] == [stamp + made.LATE for stamp in stamps]
    assert rows[1] | {"topic": CAMERA, "frame_id": "front_camera", "height": "24", "width": "32"} == rows[1]
    assert np.array_equal(np.asarray(Image.open(report.files[1])), frames[3])
    assert report.frames == 7
    again = open_sequence(tmp_path / "out")
    assert [entry.time_ns for entry in again.entries] == stamps, "keyframes reads the times of the names"


def test_keyframes_are_the_sharp_ones(tmp_path):
    """The view moves by a tenth of its width in three frames, and the first of each three is blurred."""
    scene = np.random.default_rng(0).integers(0, 256, (12, 60), np.uint8)
    scene = np.asarray(Image.fromarray(scene).resize((960, 192), Image.Resampling.NEAREST))
    frames = []
    for n in range(24):
        view = scene[:, 16 * n : 16 * n + 480]
        if n % 3 == 0:
            view = np.asarray(Image.fromarray(view).resize((30, 12)).resize((480, 192)))
        frames.append(Frame(np.repeat(view[..., None], 3, 2), n, n * SECOND // 25))
    report = extract(as_source(frames), tmp_path, Keyframes)
    numbers = [int(row["index"]) for row in table(tmp_path)]
    assert 4 <= len(report.files) <= 12
    assert all(number % 3 for number in numbers[1:]), numbers


def test_several_topics_get_folders(tmp_path):
    frames = made.pictures(2)
    bag = made.write_mcap(tmp_path / "drive.mcap", {"/left/image": frames, "/../right": frames})
    source = open_source(bag, topics=["/left/image", "/../right"])
    report = extract(source, tmp_path / "out", parse_every("1"))
    assert sorted({each.parent.name for each in report.files}) == [".._right", "left_image"]
    assert {each.parent.parent for each in report.files} == {tmp_path / "out"}


def test_a_video_is_taken_apart_too(tmp_path):
    frames = [Frame(picture, n, n * made.STEP) for n, picture in enumerate(made.pictures(5))]
    extract(as_source(frames), tmp_path / "out", parse_every("2"))
    rows = table(tmp_path / "out")
    assert [row["file"] for row in rows] == [f"{n * made.STEP:019}.png" for n in (0, 2, 4)]
    assert rows[0]["topic"] == ""


def test_of_a_bag_that_is_cut_off_what_is_whole_is_kept_and_listed(tmp_path, capsys):
    bag = made.write_mcap(tmp_path / "drive.mcap", {CAMERA: made.pictures(7)})
    bag.write_bytes(bag.read_bytes()[:9000])
    with pytest.raises(SystemExit) as end:
        main(["extract", str(bag), "--every", "1", "-o", str(tmp_path / "out"), "--json", str(tmp_path / "out.json")])
    said = capsys.readouterr()
    assert end.value.code == 1
    assert "cut off" in said.err
    assert len(said.err.splitlines()) == 1
    assert len(table(tmp_path / "out")) == len(list((tmp_path / "out").glob("*.png"))) == 3


def test_a_folder_with_a_table_is_left_alone_and_a_picture_is_refused(tmp_path, capsys):
    bag = made.write_mcap(tmp_path / "drive.mcap", {CAMERA: made.pictures(1)})
    (tmp_path / "frames.csv").write_text("mine")
    with pytest.raises(KerbsegError, match="already; name another folder"):
        extract(as_source(bag), tmp_path, parse_every("1"))
    assert (tmp_path / "frames.csv").read_text() == "mine"
    Image.fromarray(made.pictures(1)[0]).save(tmp_path / "a.png")
    for given, more, told in (("a.png", [], "is a picture already"), ("a.png", ["--topic", "/x"], "is none")):
        with pytest.raises(SystemExit) as end:
            main(["extract", str(tmp_path / given), "-o", str(tmp_path / "out"), *more])
        assert end.value.code == 2
        assert told in capsys.readouterr().err


def test_nothing_is_left_of_a_source_without_frames(tmp_path):
    with pytest.raises(DataError, match="gave no frame"):
        extract(as_source([]), tmp_path / "out", parse_every("1"))
    assert not (tmp_path / "out" / "frames.csv").exists()
