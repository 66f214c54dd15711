"""Files, cameras, pipes and addresses are told apart; the standard input is read with or without a container."""

import os
import threading
from contextlib import contextmanager, suppress
from fractions import Fraction

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.predict import RawFrames
from kerbseg.predict.sources.containers import truncated_bytes
from kerbseg.predict.sources.pyav import frames
from kerbseg.predict.sources.streams import Stream, as_stream

av = pytest.importorskip("av", reason="PyAV is not installed")


@contextmanager
def standard_input(content):
    """Bytes on the file descriptor that a shell would give us."""
    reading, writing = os.pipe()

    def write():
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:
            file.write(content)

    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        writer.join()


def test_inputs_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    assert as_stream("-") == Stream("stdin", "pipe:0")
    assert as_stream("2") == Stream("video2", "/dev/video2", "v4l2", live=True)
    assert as_stream("rtsp://robot/front.sdp") == Stream("front", "rtsp://robot/front.sdp", live=True)
    assert as_stream("street.mp4") is None
    (tmp_path / "2").touch()
    assert as_stream("2") is None
    os.mkfifo("pipe")
    assert as_stream("pipe") == Stream("pipe", "pipe")
    monkeypatch.setattr("sys.platform", "darwin")
    assert as_stream("0") == Stream("camera0", "0", "avfoundation", live=True)
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(KerbsegError, match="Linux and macOS"):
        as_stream("0")


@pytest.mark.parametrize("text", ["360x480", "360x480@", "x480@25", "0x480@25", "360x480@0", "360x480@25/0", "a"])
def test_raw_frames_that_are_none_are_told(text):
    with pytest.raises(KerbsegError, match="raw frames"):
        RawFrames.parse(text)


def test_raw_frames_without_a_stream_are_told(camvid_bundle, video_file, tmp_path, capsys):
    source = video_file(tmp_path / "drive.mkv")
    with pytest.raises(SystemExit):
        main(["predict", str(camvid_bundle), str(source), "--raw", "32x48@25", "-o", str(tmp_path)])
    assert "no input is one" in capsys.readouterr().err


def test_raw_frames_have_a_size_and_an_exact_rate():
    assert RawFrames.parse("720x1280@30000/1001") == RawFrames(720, 1280, Fraction(30000, 1001))
    assert RawFrames.parse("32X48@12.5").rate == Fraction(25, 2)


@pytest.mark.parametrize("partial", [0, 100])
def test_raw_frames_on_the_standard_input(camvid_bundle, times, tmp_path, capsys, partial):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)
    arguments = ["predict", str(camvid_bundle), "-", "--raw", "32x48@30000/1001", "-o", str(tmp_path)]
    with standard_input(pictures.tobytes() + b"0" * partial):
        if partial:
            with pytest.raises(SystemExit) as left:
                main(arguments)
            assert left.value.code == 2
            error = capsys.readouterr().err
            assert "the standard input" in error
            assert "9 frames in" in error
        else:
            main(arguments)
    went, rate = times(tmp_path / "stdin_overlay.mp4")
    assert went == [Fraction(i * 1001, 30000) for i in range(9)]
    assert rate == Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
def test_a_container_on_the_standard_input(camvid_bundle, video_file, times, tmp_path, suffix):
    source = video_file(tmp_path / f"drive.{suffix}", frames=20, codec="mpeg4" if suffix == "avi" else "libx264")
    with standard_input(source.read_bytes()):
        main(["predict", str(camvid_bundle), "-", "-o", str(tmp_path)])
    assert times(tmp_path / "stdin_overlay.mp4")[0] == times(source)[0]


def test_raw_pixels_are_read_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 10, 3), np.uint8)
    with standard_input(pixels.tobytes()):
        pictures = [frame.picture for frame in frames(RawFrames.parse("6x10@25").stream("stdin", "pipe:0"))]
    np.testing.assert_array_equal(pictures, pixels)


@pytest.mark.parametrize("content", [b"", b"no video" * 100])
def test_a_standard_input_that_is_no_video_is_one_line(camvid_bundle, tmp_path, capsys, content):
    with standard_input(content), pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), "-", "-o", str(tmp_path / "out")])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "the standard input" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.skipif(not os.path.isdir("/dev"), reason="no device files here")
def test_a_camera_that_is_not_there_is_one_line(camvid_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), "97", "-o", "out"])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "/dev/video97" in error
    assert error.count("\n") == 1


def test_a_camera_counts_from_its_first_picture_and_does_not_end_with_a_lost_one(video_file, tmp_path):
    source = video_file(tmp_path / "late.mkv", pts=(137, 177, 217), time_base=Fraction(1, 1000), frames=3)
    live = Stream("camera", str(source), live=True)
    assert [frame.pts * frame.time_base for frame in frames(live)] == [0, Fraction(1, 25), Fraction(2, 25)]
    damaged = video_file(tmp_path / "bad.ts", frames=40, size=(64, 96), encoding={"g": "5"})
    content = bytearray(damaged.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="is damaged after frame"):
        list(frames(Stream("bad", str(damaged))))
    times = [frame.pts for frame in frames(Stream("bad", str(damaged), live=True))]
    assert 20 < len(times) < 40
    assert times == sorted(set(times))


CONTAINERS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "ts": "libx264"}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_file_that_was_cut_off_says_what_lacks(video_file, tmp_path, suffix):
    source = video_file(tmp_path / f"drive.{suffix}", frames=20, codec=CONTAINERS[suffix])
    assert truncated_bytes(source) == 0
    content = source.read_bytes()
    source.write_bytes(content[:-333])
    assert truncated_bytes(source) == (-(len(content) - 333) % 188 if suffix == "ts" else 333)


def test_what_says_nothing_of_its_length_lacks_nothing(tmp_path):
    for name, content in {"a": b"", "b": b"\x1aE\xdf\xa3", "c": b"RIFF\0\0\0\0AVI ", "d": b"x" * 2000}.items():
        (tmp_path / name).write_bytes(content)
        assert truncated_bytes(tmp_path / name) == 0
    unknown = b"\x1aE\xdf\xa3\x80\x18S\x80g\x01" + b"\xff" * 7 + b"x" * 100  # as a live recorder writes it
    (tmp_path / "live").write_bytes(unknown)
    assert truncated_bytes(tmp_path / "live") == 0
