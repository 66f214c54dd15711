"""Whatever ends a video, its threads are gone, its file can be played, and the status says what it was."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Frame, Predictor, SinkKind, Source, VideoOptions, predict_files, segment_video
from kerbseg.predict.pipeline import ThreadedPipeline

av = pytest.importorskip("av", reason="PyAV is not installed")


def frames(count=100, size=(32, 48)):
    generator = np.random.default_rng(0)
    for i in range(count):
        yield Frame(generator.integers(0, 256, (*size, 3), np.uint8), i, i, Fraction(1, 25))


@pytest.fixture
def nobody_else():
    """That no thread is left when the test ends."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@contextmanager
def signalled(after, *signums):
    """Sends signals to this process, as soon as an event is set and right after each other."""

    def send():
        assert after.wait(60)
        for signum in signums:
            os.kill(os.getpid(), signum)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()


def looked_at(sink_frames):
    """A sink that sets an event at the tenth frame, and takes its time."""
    tenth = threading.Event()

    @contextmanager
    def open(target, source, labels):
        def add(frame, prediction):
            time.sleep(0.002)
            if frame.index == sink_frames:
                tenth.set()

        yield add

    return SinkKind("_x", open), tenth


@pytest.mark.parametrize("signums", [[signal.SIGINT] * 2, [signal.SIGINT] * 5, [signal.SIGTERM], [signal.SIGHUP] * 2])
def test_of_several_requests_to_end_one_is_heard_and_the_video_is_finished(
    bright, times, tmp_path, nobody_else, signums
):
    from kerbseg.predict.interrupts import ending_once

    sink, tenth = looked_at(10)
    source = Source("drive", lambda: frames(2000))
    for signum in signums:
        if signal.getsignal(signum) == signal.SIG_IGN:  # as under nohup, which is not what is tested
            signal.signal(signum, signal.SIG_DFL)
    before = [signal.getsignal(signum) for signum in signums]
    with signalled(tenth, *signums), pytest.raises(KeyboardInterrupt) as ending, ending_once(*signums):
        segment_video(source, Predictor(bright), tmp_path, sinks=["mp4", sink])
    assert ending.value.signum == signums[0]
    went, _ = times(tmp_path / "drive_overlay.mp4")
    assert 10 < len(went) < 2000
    assert went == [Fraction(i, 25) for i in range(len(went))]
    assert [path.name for path in tmp_path.iterdir()] == ["drive_overlay.mp4"]
    assert [signal.getsignal(signum) for signum in signums] == before


def test_a_request_that_comes_while_the_file_is_being_finished_waits_for_it(bright, times, tmp_path):
    @contextmanager
    def slow(target, source, labels):
        yield lambda frame, prediction: None
        for _ in range(3):  # this is finished before the file is
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        segment_video(
            Source("drive", lambda: frames(30)), Predictor(bright), tmp_path, sinks=["mp4", SinkKind("_x", slow)]
        )
    assert len(times(tmp_path / "drive_overlay.mp4")[0]) == 30


def test_a_request_is_raised_at_once_where_nothing_holds_it():
    from kerbseg.core.errors import Interrupted
    from kerbseg.predict.interrupts import ending_once

    def wait():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            time.sleep(0.01)
        pytest.fail("it was not raised")

    with pytest.raises(Interrupted), ending_once(signal.SIGINT):
        wait()


def test_what_is_ignored_stays_ignored_and_a_block_that_is_held_ends_before_it_is_told():
    from kerbseg.core.errors import Interrupted
    from kerbseg.predict.interrupts import ending_once, held

    seen = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with pytest.raises(Interrupted) as ending, ending_once(signal.SIGHUP, signal.SIGTERM), held():
            seen.extend(os.kill(os.getpid(), signum) for signum in (signal.SIGHUP, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert seen == [None, None]
    assert ending.value.signum == signal.SIGTERM


COMMAND = """
import sys, time, itertools, numpy as np
from fractions import Fraction
from kerbseg.predict import SOURCES, Frame, Source, SourceKind

def frames():
    for i in itertools.count():
        time.sleep(0.01)
        if i == 12:
            print("twelve", flush=True)
        yield Frame(np.full((32, 48, 3), i % 256, np.uint8), i, i, Fraction(1, 25))

SOURCES["made"] = SourceKind(lambda given, raw: Source("made", frames) if given == "made" else None)
sys.argv = ["kerbseg", "predict", sys.argv[1], "made", "-o", sys.argv[2], "--json", sys.argv[3]]
from kerbseg.cli import main
main()
"""


@pytest.mark.parametrize(("signum", "times_sent", "status"), [(signal.SIGINT, 4, 130), (signal.SIGTERM, 2, 143)])
def test_the_command_ends_with_the_status_of_the_signal_and_keeps_its_video(
    camvid_bundle, times, tmp_path, signum, times_sent, status
):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    command = [sys.executable, "-c", COMMAND, str(camvid_bundle), str(out), str(figures)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "twelve\n"
    for _ in range(times_sent):
        process.send_signal(signum)
        time.sleep(0.1)
    _, error = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in error
    assert "interrupted; what was finished is kept" in error
    went, _ = times(out / "made_overlay.mp4")
    assert len(went) >= 4
    [video] = json.loads(figures.read_text())["videos"]
    assert video["frames"] == len(went)
    assert not video["whole"]


def test_a_disk_that_becomes_full_leaves_a_video_that_can_be_played(bright, times, tmp_path, nobody_else):
    reports = []
    source = Source("long", lambda: frames(400, (96, 128)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, before[1]))  # the system's own way to refuse more
    try:
        with pytest.raises(KerbsegError, match=r"cannot write .*long_overlay\.mp4: .*free space") as refusal:
            segment_video(source, Predictor(bright), tmp_path, VideoOptions(on_report=reports.append))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    went, _ = times(tmp_path / "long_overlay.mp4")
    assert 25 <= len(went) < 400
    assert went == [Fraction(i, 25) for i in range(len(went))]
    assert f"{len(went)} frames in {tmp_path / 'long_overlay.mp4'}" in str(refusal.value)
    assert [report.frames for report in reports] == [len(went)]
    assert not reports[0].whole
    assert [path.name for path in tmp_path.iterdir()] == ["long_overlay.mp4"]


@pytest.mark.parametrize("at", [0, 7])
def test_a_sink_that_has_no_room_takes_no_other_sinks_file_with_it(bright, times, tmp_path, nobody_else, at):
    @contextmanager
    def full(target, source, labels):
        def add(frame, prediction):
            if frame.index == at:
                raise OSError(errno.ENOSPC, "No space left on device")

        yield add

    sinks = ["mp4", "json", SinkKind("_full", full)]
    with pytest.raises(KerbsegError, match="No space left on device; free space"):
        segment_video(Source("drive", frames), Predictor(bright), tmp_path, sinks=sinks)
    if not at:
        assert not list(tmp_path.iterdir())
        return
    assert len(times(tmp_path / "drive_overlay.mp4")[0]) >= 7
    assert len(json.loads((tmp_path / "drive_shares.json").read_text())["frames"]) >= 7


def test_figures_without_room_are_valid_json_up_to_the_frame_before(bright, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(KerbsegError, match=r"cannot write .*drive_shares\.json") as refusal:
            segment_video(Source("drive", frames), Predictor(bright), tmp_path, sinks="json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    written = json.loads((tmp_path / "drive_shares.json").read_text())["frames"]
    assert len(written) > 2
    assert [frame["index"] for frame in written] == list(range(len(written)))
    assert f"{len(written)} frames in" in str(refusal.value)


def test_an_error_of_any_kind_leaves_the_frames_before_it(bright, times, tmp_path, nobody_else):
    def broken():
        yield from frames(9)
        raise RuntimeError("a defect of a source")

    with pytest.raises(RuntimeError, match="a defect of a source"):
        segment_video(Source("drive", broken), Predictor(bright), tmp_path)
    assert len(times(tmp_path / "drive_overlay.mp4")[0]) == 9


def test_what_a_killed_prediction_left_is_removed_by_the_next_and_a_running_ones_is_not(bright, tmp_path):
    """A process that is killed while it writes, and one that goes on."""
    code = (
        "import sys, time; from kerbseg.core.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write_text('half'); print('ready', flush=True); time.sleep(600)"
    )
    start = [sys.executable, "-c", code]
    killed, running = (
        subprocess.Popen([*start, str(tmp_path / "out" / name)], stdout=subprocess.PIPE, text=True)
        for name in ("killed.png", "running.png")
    )
    try:
        assert killed.stdout.readline() == running.stdout.readline() == "ready\n"
        killed.kill()
        killed.wait()
        assert len(list((tmp_path / "out").iterdir())) == 2
        Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
        predict_files(Predictor(bright), [tmp_path / "a.png"], tmp_path / "out", sinks="ids")
        left = [path for path in (tmp_path / "out").iterdir() if path.name != "a_ids.png"]
        assert [path.read_text() for path in left] == ["half"]
        assert str(running.pid) in left[0].name
    finally:
        running.kill()
        running.wait()


def test_one_large_item_counts_as_several():
    most, alive = 0, 0
    lock = threading.Lock()

    def source():
        nonlocal most, alive
        for i in range(40):
            with lock:
                alive += 1
                most = max(most, alive)
            yield i

    work = ThreadedPipeline(source(), str, max_in_flight=8, cost=lambda item: 4)
    taken = 0
    for _ in work:
        taken += 1
        time.sleep(0.001)
        with lock:
            alive -= 1
    assert taken == 40
    assert most <= 4  # two in flight, one waiting for room, one handed out
