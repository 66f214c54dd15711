"""Videos come out with the frames and times they came in with; whatever ends one, what was finished can be played."""

import gc
import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
import weakref
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError, MissingExtra
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import drive
from kerbseg.predict import Frame, Prediction, Predictor, Source, VideoOptions, predict_files, segment_video, video
from kerbseg.predict.draw import blend_overlay
from kerbseg.predict.pipeline import MAX_IN_FLIGHT
from kerbseg.predict.sinks.mp4 import VideoWriter
from kerbseg.predict.sources import SOURCES, SourceKind, open_source

av = pytest.importorskip("av", reason="PyAV is not installed")

FAST_START = {"movflags": "faststart"}  # the table of frames comes first, so that a file cut off can be read


def predict(camvid_bundle, *arguments):
    """The exit status of the command."""
    try:
        main(["predict", str(camvid_bundle), *map(str, arguments)])
    except SystemExit as left:
        return left.code
    return 0


def of_millis(*at):
    return {"pts": at, "time_base": Fraction(1, 1000), "frames": len(at)}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("constant.mp4", {"rate": 25}),
        ("ntsc.mp4", {"rate": Fraction(30000, 1001)}),
        ("variable.mkv", of_millis(0, 40, 41, 81, 133, 134, 300, 301, 1000)),
        ("late.mkv", of_millis(137, 177, 217, 258)),
        ("transport.ts", {"rate": Fraction(30000, 1001), "frames": 12}),
        ("old.avi", {"codec": "mpeg4"}),
    ],
)
def test_frames_and_their_times_are_kept_exactly(bright, video_file, times, tmp_path, name, how):
    source = video_file(tmp_path / name, **how)
    predict_files(Predictor(bright), [source], tmp_path / "out")
    came, rate_in = times(source)
    went, rate_out = times(tmp_path / "out" / f"{source.stem}_overlay.mp4")
    assert len(came) == how.get("frames", 7)
    assert went == came
    if "pts" not in how:
        assert rate_in == rate_out


def test_a_video_that_begins_before_zero_is_moved_to_begin_there(bright, video_file, times, tmp_path):
    source = video_file(tmp_path / "early.nut", pts=(-80, -40, 0, 40), time_base=Fraction(1, 1000), frames=4)
    target = tmp_path / "early_overlay.mp4"
    from kerbseg.predict.sources.pyav import stream_source
    from kerbseg.predict.sources.streams import Stream

    report = segment_video(stream_source(Stream("early", str(source))), Predictor(bright), tmp_path)
    assert report.targets == (target,)
    assert report.whole
    assert report.frames == 4
    went = times(target)[0]
    assert [t - went[0] for t in went] == [Fraction(i * 40, 1000) for i in range(4)]
    assert went[0] >= 0


def test_colours_arrive_as_they_were_drawn(bright, tmp_path):
    picture = np.full((64, 96, 3), (200, 60, 30), np.uint8)
    with av.open(str(tmp_path / "red.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    predict_files(Predictor(bright), [tmp_path / "red.mkv"], tmp_path)
    with av.open(str(tmp_path / "red_overlay.mp4")) as file:
        arrived = next(file.decode(video=0)).to_ndarray(format="rgb24")
    drawn = blend_overlay(picture, np.zeros((64, 96), np.uint8), label_set("camvid"))
    np.testing.assert_allclose(arrived[32, 48].astype(int), drawn[32, 48], atol=4)


def test_sides_that_are_odd_are_made_even(bright, video_file, tmp_path):
    source = video_file(tmp_path / "odd.mkv", size=(33, 51), codec="ffv1")
    predict_files(Predictor(bright), [source], tmp_path)
    with av.open(str(tmp_path / "odd_overlay.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.height, stream.width) == (34, 52)


def test_frames_of_another_size_become_the_first_ones_size(bright, video_file, tmp_path):
    small, large = video_file(tmp_path / "a.h264"), video_file(tmp_path / "b.h264", size=(64, 64))
    both = tmp_path / "both.mpeg"  # the elementary stream's format is known by what is in it
    both.write_bytes(small.read_bytes() + large.read_bytes())
    predict_files(Predictor(bright), [both], tmp_path)
    with av.open(str(tmp_path / "both_overlay.mp4")) as file:
        assert {(frame.height, frame.width) for frame in file.decode(video=0)} == {(32, 48)}
        assert file.streams.video[0].frames == 14


@pytest.mark.parametrize(
    ("name", "how", "lost"),
    [
        ("cut.mp4", {"muxing": FAST_START}, 700),
        ("half.mp4", {"muxing": FAST_START}, 0.5),
        ("cut.mkv", {}, 700),
        ("cut.webm", {"codec": "libvpx-vp9", "encoding": {"deadline": "realtime", "cpu-used": "8"}}, 700),
        ("cut.avi", {"codec": "mpeg4"}, 0.5),
        ("half.ts", {}, 0.5),
        ("cut.ts", {}, 700),
    ],
)
def test_of_a_video_that_ends_in_mid_frame_what_was_finished_is_kept(
    camvid_bundle, video_file, times, tmp_path, capsys, name, how, lost
):
    source = video_file(tmp_path / name, frames=40, size=(64, 96), **how)
    whole, _ = times(source)
    content = source.read_bytes()
    source.write_bytes(content[: -lost if lost > 1 else int(len(content) * lost)])
    assert predict(camvid_bundle, source, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    target = tmp_path / "out" / f"{source.stem}_overlay.mp4"
    kept, _ = times(target)
    assert error.count("\n") == 1
    assert name in error
    assert f"{len(kept)} frames in {target}" in error
    assert 10 <= len(kept) <= 40
    assert set(kept) <= set(whole)
    assert kept[:10] == whole[:10]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {target.name, "classes.json"}


@pytest.mark.parametrize("name", ["bad.mkv", "bad.ts", "bad.mpg"])
def test_a_video_that_is_damaged_in_the_middle_ends_there(camvid_bundle, video_file, times, tmp_path, capsys, name):
    codec = "mpeg2video" if name == "bad.mpg" else "libx264"
    source = video_file(tmp_path / name, frames=40, size=(64, 96), rate=25 if name == "bad.mpg" else 10, codec=codec)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
    source.write_bytes(content)
    assert predict(camvid_bundle, source, "-o", tmp_path) == 2
    assert f"{name} is damaged" in capsys.readouterr().err
    assert 5 < len(times(tmp_path / "bad_overlay.mp4")[0]) < 40


def test_a_video_without_its_table_of_frames_leaves_nothing_half_written(camvid_bundle, video_file, tmp_path, capsys):
    source = video_file(tmp_path / "cut.mp4", frames=40, size=(64, 96))
    source.write_bytes(source.read_bytes()[:-700])
    assert predict(camvid_bundle, source, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "cut.mp4" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))


def test_a_sound_recording_is_no_video(bright, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"0" * 1000)
    with pytest.raises(DataError, match="cannot be read as a video"):
        predict_files(Predictor(bright), [tmp_path / "noise.mp4"], tmp_path / "out")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=44100, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 44100
        file.mux(stream.encode(sound))
        file.mux(stream.encode(None))
    with pytest.raises(DataError, match="no video stream"):
        predict_files(Predictor(bright), [tmp_path / "sound.mp4"], tmp_path / "out")


def test_a_full_disk_is_told_and_nothing_half_written(bright, video_file, tmp_path):
    source = video_file(tmp_path / "long.mkv", frames=60, size=(96, 128))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # the system's own way to refuse more
    try:
        with pytest.raises(KerbsegError, match="cannot write") as refusal:
            predict_files(Predictor(bright), [source], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(refusal.value, DataError)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("steps", [1, 5])
def test_interrupted_where_the_progress_is_shown_the_file_is_finished(bright, video_file, times, tmp_path, steps):
    source = video_file(tmp_path / "long.mkv", frames=60)
    reports = []

    def bar(work):
        for i, step in enumerate(work, start=1):
            if i == steps:
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        predict_files(Predictor(bright), [source], tmp_path, bar, VideoOptions(on_report=reports.append))
    went, _ = times(tmp_path / "long_overlay.mp4")
    assert steps <= len(went) <= steps + MAX_IN_FLIGHT
    assert went == times(source)[0][: len(went)]
    assert reports[0].frames == len(went)
    assert not reports[0].whole


def test_interrupted_while_damage_is_under_way_the_file_is_finished(bright, video_file, times, tmp_path, monkeypatch):
    source = video_file(tmp_path / "short.mp4", frames=4)
    damaged = threading.Event()
    whole = open_source(source)

    def cut_off():
        yield from whole
        damaged.set()
        raise DataError("it is cut off")

    def bar(work):
        for step in work:
            assert damaged.wait(60)
            raise KeyboardInterrupt
            yield step

    monkeypatch.setitem(SOURCES, "video", SourceKind(lambda given, raw: Source("short", cut_off)))
    with pytest.raises(KeyboardInterrupt):
        predict_files(Predictor(bright), [source], tmp_path, bar)
    assert times(tmp_path / "short_overlay.mp4") == times(source)


def test_ctrl_c_ends_a_camera_with_130_and_keeps_its_file(camvid_bundle, times, tmp_path, capsys, monkeypatch):
    from kerbseg.predict.sources import streams

    camera = streams.Stream("video0", "testsrc=size=48x32:rate=30", "lavfi", live=True)
    monkeypatch.setattr(streams, "_camera", lambda device: camera)
    out = tmp_path / "out"

    def interrupt():
        for _ in range(3000):
            if any(path.stat().st_size for path in out.glob(".*")):
                break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    status = predict(camvid_bundle, "0", "-o", out, "--json", tmp_path / "figures.json")
    interrupter.join()
    assert status == 130
    went, rate = times(out / "video0_overlay.mp4")
    assert went == [Fraction(i, 30) for i in range(len(went))]
    assert rate == 30
    [video] = json.loads((tmp_path / "figures.json").read_text())["videos"]
    assert video["frames"] == len(went)
    assert video["whole"] is False
    assert "interrupted" in capsys.readouterr().err


def test_a_pipe_that_falls_silent_holds_up_nobody(bright, times, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    silence = threading.Event()

    def write():
        with pipe.open("wb") as file:
            for i in range(12):
                file.write(bytes([i]) * (32 * 48 * 3))
            file.flush()
            silence.wait(60)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()

    def bar(work):
        for i, step in enumerate(work, start=1):
            if i == 10:  # a rawvideo reader looks one or two frames ahead
                raise KeyboardInterrupt
            yield step

    from kerbseg.predict import RawFrames

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        predict_files(Predictor(bright), [str(pipe)], tmp_path, bar, VideoOptions(raw=RawFrames.parse("32x48@12.5")))
    assert time.monotonic() - started < 30
    silence.set()
    went, rate = times(tmp_path / "pipe_overlay.mp4")
    assert len(went) >= 10
    assert rate == 12.5


def test_few_frames_are_alive_at_a_time(bright, tmp_path, monkeypatch):
    alive, most = 0, 0
    lock = threading.Lock()

    def gone():
        nonlocal alive
        with lock:
            alive -= 1

    def source():
        nonlocal alive, most
        for i in range(80):
            frame = Frame(np.zeros((32, 48, 3), np.uint8), i, i, Fraction(1, 25), 1)
            weakref.finalize(frame, gone)
            with lock:
                alive += 1
                most = max(most, alive)
            yield frame
            del frame

    def slow(work):
        for step in work:
            time.sleep(0.002)  # so that all others wait for room
            yield step

    monkeypatch.setitem(SOURCES, "many", SourceKind(lambda given, raw: Source("any", source)))
    gc.disable()
    try:
        predict_files(Predictor(bright), ["many frames"], tmp_path, slow)
    finally:
        gc.enable()
    assert MAX_IN_FLIGHT // 2 < most <= MAX_IN_FLIGHT + 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell a process's memory there")
def test_a_one_minute_video_needs_constant_memory(bright, video_file, times, tmp_path):
    source = video_file(tmp_path / "minute.mp4", frames=1500, size=(180, 320), encoding={"preset": "ultrafast"})
    used = []

    def watch(work):
        for step in work:
            used.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
            yield step

    bright.card = bright.card.__class__(**{**vars(bright.card), "input_size": (180, 320)})
    predict_files(Predictor(bright), [source], tmp_path, watch, VideoOptions(smooth=0.7, flicker=True))
    assert max(used[750:]) - max(used[100:750]) < 20  # MiB; 1500 frames are 247
    assert times(tmp_path / "minute_overlay.mp4") == times(source)


def test_without_pyav_the_remedy_is_told_and_pictures_still_work(bright, video_file, tmp_path, monkeypatch):
    source = video_file(tmp_path / "drive.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[video\]'"):
        predict_files(Predictor(bright), [source], tmp_path)
    from PIL import Image

    Image.new("RGB", (48, 32)).save(tmp_path / "street.png")
    predict_files(Predictor(bright), [tmp_path / "street.png"], tmp_path)
    assert (tmp_path / "street_ids.png").exists()


class Slow:
    """A segmenter that takes three frames at the same time, the first ones longest."""

    labels = label_set("camvid")

    def __init__(self, fails_at=None):
        self._fails_at, self._together, self.most = fails_at, 0, 0
        self._lock = threading.Lock()

    def for_frames(self):
        return self, 3

    def __call__(self, picture, *, channels, confidence):
        with self._lock:
            self._together += 1
            self.most = max(self.most, self._together)
        number = int(picture[0, 0, 0])
        time.sleep(0.002 * (3 - number % 3))
        with self._lock:
            self._together -= 1
        if number == self._fails_at:
            raise KerbsegError("this frame is too much")
        return Prediction(np.full(picture.shape[:2], number % 11, np.uint8), self.labels, picture=picture)


def numbered(count):
    return [Frame(np.full((4, 6, 3), i, np.uint8), i, i, Fraction(1, 25)) for i in range(count)]


def test_frames_that_are_segmented_at_the_same_time_come_in_their_order():
    segmenter = Slow()
    seen = [(frame.index, int(prediction.ids[0, 0])) for frame, prediction in video(numbered(40), segmenter)]
    assert seen == [(i, i % 11) for i in range(40)]
    assert 1 < segmenter.most <= 3


def test_a_frame_that_fails_comes_after_those_before_it_and_those_behind_it_do_not_come():
    seen = []
    with pytest.raises(KerbsegError, match="too much"):
        seen.extend(frame.index for frame, _ in video(numbered(40), Slow(fails_at=20)))
    assert seen == list(range(20))


def test_what_is_written_looks_as_it_was_drawn(made, tmp_path):
    """Of a drawn street the file keeps about as much as preset veryfast at crf 20 did, which had XX dB of luma."""
    pictures = [picture for picture, _ in itertools.islice(drive(0, (128, 192)), 6)]
    frames = [Frame(picture, i, i, Fraction(1, 25)) for i, picture in enumerate(pictures)]
    predictor = Predictor(made(lambda picture: (picture[..., 1] > 127).astype(np.uint8), (128, 192)))
    report = segment_video(frames, predictor, tmp_path)
    with av.open(str(report.targets[0])) as file:
        shown = [frame.to_ndarray(format="gray").astype(float) for frame in file.decode(video=0)]
    drawn = [predictor(picture).blended @ np.array([0.299, 0.587, 0.114]) for picture in pictures]
    assert len(shown) == len(pictures)
    errors = [np.mean((one - other) ** 2) for one, other in zip(shown, drawn, strict=True)]
    psnr_db = 10 * np.log10(255**2 / np.mean(errors))
    assert psnr_db > 36.5


def test_a_large_frame_has_more_threads_for_its_encoder_and_a_small_one_has_one(monkeypatch, tmp_path):
    module = sys.modules[VideoWriter.__module__]  # whose name is a function's, too
    monkeypatch.setattr(module, "all_threads", lambda: 4)
    monkeypatch.setattr(module, "PIXELS_A_THREAD", 64 * 96 // 2)
    used = []
    for name, size in (("small", (32, 48)), ("large", (64, 96)), ("huge", (256, 256))):
        with closing(VideoWriter(tmp_path / f"{name}.mp4")) as writer:
            writer.add(Frame(np.zeros((*size, 3), np.uint8)), np.zeros((*size, 3), np.uint8))
            used.append(writer._stream.codec_context.thread_count)
            writer.finish()
    assert used == [1, 3, 4]
