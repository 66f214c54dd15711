"""Each N-th frame keeps its time; of a live stream the newest frame is taken, and what was dropped is counted."""

import json
import threading
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Frame, Predictor, Source, VideoOptions, predict_files, segment_video, video
from kerbseg.predict.live import Newest, every_nth


def frames(count):
    for i in range(count):
        yield Frame(np.full((8, 8, 3), i, np.uint8), i, pts=i * i, time_base=Fraction(1, 30), rate=Fraction(30))


@pytest.mark.parametrize(("stride", "kept"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (4, [0, 4]), (9, [0])])
def test_each_nth_frame_keeps_its_index_and_its_time(bright, stride, kept):
    seen = list(video(frames(7), Predictor(bright), stride=stride))
    assert [frame.index for frame, _ in seen] == kept
    assert [frame.pts * frame.time_base for frame, _ in seen] == [Fraction(i * i, 30) for i in kept]
    assert all((prediction.ids == bright(frame.picture[None])[0]).all() for frame, prediction in seen)


def test_a_video_of_each_third_frame_has_their_exact_times(bright, video_file, times, tmp_path, capsys):
    path = video_file(tmp_path / "drive.mp4", frames=8, rate=Fraction(30000, 1001))
    report = segment_video(path, Predictor(bright), tmp_path / "out", VideoOptions(stride=3))
    all_times, _ = times(path)
    kept, rate = times(tmp_path / "out" / "drive_overlay.mp4")
    assert kept == all_times[::3]
    assert rate == pytest.approx(Fraction(10000, 1001), rel=0.01)
    assert (report.frames, report.stride, report.received) == (3, 3, None)
    assert report.to_dict()["stride"] == 3
    assert report.to_dict()["newest"] is None


@pytest.mark.parametrize("stride", [0, -1, 1.5, True])
def test_what_is_no_stride_is_refused(stride):
    with pytest.raises(KerbsegError, match="stride"):
        VideoOptions(stride=stride)


def test_what_came_meanwhile_is_dropped_and_the_last_frame_is_not():
    asked, sent = threading.Event(), threading.Event()

    def source():
        yield from frames(3)
        assert asked.wait(30)
        yield Frame(np.zeros((8, 8, 3), np.uint8), 3)
        sent.set()

    newest = Newest(source())
    taken = iter(newest)
    first = next(taken)
    while newest.received < 3:
        pass
    second = next(taken) if first.index < 2 else first
    assert second.index == 2, "of those that came, the newest"
    asked.set()
    assert sent.wait(30)
    assert [frame.index for frame in taken] == [3]
    assert newest.received == 4


def test_the_error_that_ended_a_stream_comes_behind_its_newest_frame():
    def source():
        yield from frames(2)
        raise ValueError("unplugged")

    got = []
    with pytest.raises(ValueError, match="unplugged"):
        got.extend(iter(iter(Newest(source())).__next__, None))
    assert got[-1].index == 1


def test_a_stream_that_is_left_is_closed(bright):
    closed = threading.Event()

    def source():
        try:
            for i in range(10**9):
                yield Frame(np.zeros((8, 8, 3), np.uint8), i)
        finally:
            closed.set()

    for frame, _ in video(source(), Predictor(bright), newest=True):
        if frame.index >= 0:
            break
    assert closed.wait(10)


def test_received_frames_are_those_that_were_segmented_and_those_that_were_dropped(made, tmp_path):
    slow = threading.Event()
    runtime = made(lambda picture: (slow.wait(0.002), picture[..., 0] % 2)[1])
    source = Source("camera", lambda: frames(200), "camera 0")
    seen = []
    report = segment_video(
        source, Predictor(runtime), tmp_path, VideoOptions(newest=True, on_report=seen.append), sinks="json"
    )
    shares = json.loads((tmp_path / "camera_shares.json").read_text())["frames"]
    assert [frame["index"] for frame in shares] == sorted({frame["index"] for frame in shares})
    assert shares[-1]["index"] == 199, "the last one is looked at"
    assert report.received == 200 == report.frames + report.dropped
    assert report.dropped > 0
    assert f"{report.frames} frames of 200 ({report.dropped} dropped)" in str(report)
    assert report.to_dict()["newest"] == {"received": 200, "dropped": report.dropped}


def test_of_a_file_no_newest_frame_is_taken_and_of_pictures_no_stride(bright, video_file, tmp_path):
    path = video_file(tmp_path / "drive.mp4", frames=2)
    for ask in (
        lambda: video(path, Predictor(bright), newest=True),
        lambda: segment_video(path, Predictor(bright), tmp_path / "out", VideoOptions(newest=True)),
        lambda: predict_files(Predictor(bright), [path], tmp_path / "out", options=VideoOptions(newest=True)),
    ):
        with pytest.raises(KerbsegError, match="--stride"):
            ask()
    assert not (tmp_path / "out").exists()
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    for options in (VideoOptions(stride=2), VideoOptions(newest=True)):
        with pytest.raises(KerbsegError, match="no input is one"):
            predict_files(Predictor(bright), [tmp_path / "one.png"], tmp_path / "out", options=options)


def test_the_command_tells_stride_in_its_json(video_file, tmp_path):
    path = video_file(tmp_path / "drive.mp4", frames=5)
    more = ["--save", "json", "--size", "32x48", "--json", str(tmp_path / "run.json")]
    main(["predict", "mininet_v2_cpu-camvid", str(path), "-o", str(tmp_path / "out"), "--stride", "2", *more])
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["videos"][0]["frames"], run["videos"][0]["stride"]) == (3, 2)
    assert (run["protocol"]["size"], run["protocol"]["roi"], run["protocol"]["tiles"]) == ([32, 48], None, None)
    frames = json.loads((tmp_path / "out" / "drive_shares.json").read_text())["frames"]
    assert [(frame["index"], frame["time_ns"]) for frame in frames] == [(0, 0), (2, 80_000_000), (4, 160_000_000)]


def test_nothing_is_taken_of_a_stride_that_nobody_iterates():
    taken = []
    every_nth((taken.append(i) for i in range(3)), 2)
    assert taken == []
