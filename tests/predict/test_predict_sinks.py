"""A new kind of source or sink is one entry of a table; several sinks take the same frames; their files are whole."""

import itertools
import json
import threading
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.cli.predicting import kinds_to_save
from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.predict import (
    SINKS,
    SOURCES,
    Frame,
    Predictor,
    SinkKind,
    Source,
    SourceKind,
    predict_files,
    segment_video,
    video,
)
from kerbseg.predict.sinks import targets_of


def frames(count=3, size=(32, 48)):
    """Frames that become brighter, a fifth of a second apart."""
    for i in range(count):
        yield Frame(np.full((*size, 3), 100 * i, np.uint8), i, i, Fraction(1, 5))


@pytest.fixture
def counter(monkeypatch):
    """A source of frames that are counted: `count:3` is three of them."""

    def open(given, raw):
        if not given.startswith("count:"):
            return None
        count = int(given.removeprefix("count:"))
        return Source(f"count{count}", lambda: frames(count), given, count=lambda: count)

    monkeypatch.setitem(SOURCES, "counter", SourceKind(open))


@pytest.fixture
def notes(monkeypatch):
    """A sink that is a line of text for each frame."""

    @contextmanager
    def open(target, source, labels):
        lines = []
        yield lambda frame, prediction: lines.append(f"{source} {frame.index} {prediction.ids.max()}\n")
        target.parent.mkdir(exist_ok=True)
        target.write_text("".join(lines))

    kind = SinkKind("_notes.txt", open, unasked=("picture", "video"))
    monkeypatch.setitem(SINKS, "notes", kind)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_source_and_a_new_sink_need_no_other_edit(counter, notes, camvid_bundle, tmp_path, capsys):
    pytest.importorskip("av", reason="PyAV is not installed")
    main(["predict", str(camvid_bundle), "count:3", "-o", str(tmp_path)])
    assert names(tmp_path) == ["classes.json", "count3_notes.txt", "count3_overlay.mp4"]
    assert "count3_notes.txt: 3 frames" in capsys.readouterr().out
    lines = (tmp_path / "count3_notes.txt").read_text().splitlines()
    assert [line.rsplit(" ", 1)[0] for line in lines] == ["count:3 0", "count:3 1", "count:3 2"]


def test_a_new_sink_takes_pictures_too_and_can_be_asked_for_alone(notes, bright, tmp_path):
    Image.new("RGB", (48, 32), "white").save(tmp_path / "street.png")
    predict_files(Predictor(bright), [tmp_path / "street.png"], tmp_path / "a")
    assert names(tmp_path / "a") == ["street_ids.png", "street_notes.txt", "street_overlay.png"]
    predict_files(Predictor(bright), [tmp_path / "street.png"], tmp_path / "b", sinks=["notes"])
    assert (tmp_path / "b" / "street_notes.txt").read_text() == f"{tmp_path / 'street.png'} 0 1\n"
    assert names(tmp_path / "b") == ["street_notes.txt"]


def test_files_of_a_new_source_are_taken_from_a_folder(monkeypatch, notes, bright, tmp_path):
    (tmp_path / "drive.bag").write_text("2")
    (tmp_path / "drive.txt").write_text("2")

    def open(given, raw):
        return Source("drive", frames, given) if given.endswith(".bag") else None

    monkeypatch.setitem(SOURCES, "bag", SourceKind(open, frozenset({".bag"})))
    [source] = predict_files(Predictor(bright), [tmp_path], tmp_path / "out", sinks=["notes"])
    assert source.origin == str(tmp_path / "drive.bag")
    assert len((tmp_path / "out" / "drive_notes.txt").read_text().splitlines()) == 3


def test_several_sinks_take_the_same_frames(counter, bright, tmp_path, times):
    report = segment_video("count:3", Predictor(bright), tmp_path, sinks=["mp4", "json", "ids", "overlay"])
    assert [target.name for target in report.targets] == [
        "count3_overlay.mp4",
        "count3_shares.json",
        "count3_ids",
        "count3_overlay",
    ]
    assert names(tmp_path) == sorted(target.name for target in report.targets)
    assert names(tmp_path / "count3_ids") == names(tmp_path / "count3_overlay") == [f"{i:06}.png" for i in range(3)]
    for i, frame in enumerate(frames()):
        ids = np.asarray(Image.open(tmp_path / "count3_ids" / f"{i:06}.png"))
        np.testing.assert_array_equal(ids, Predictor(bright)(frame.picture).ids)
    assert times(tmp_path / "count3_overlay.mp4")[0] == [Fraction(i, 5) for i in range(3)]
    written = json.loads((tmp_path / "count3_shares.json").read_text())
    assert written["source"] == "count:3"
    assert [frame["time_ns"] for frame in written["frames"]] == [0, 200_000_000, 400_000_000]
    assert [frame["shares"]["building"] for frame in written["frames"]] == [0, 0, 1]
    assert [frame["shares"]["sky"] for frame in written["frames"]] == [1, 1, 0]


def test_the_command_takes_sinks_by_name(camvid_bundle, tmp_path, capsys):
    Image.new("RGB", (48, 32)).save(tmp_path / "street.png")
    arguments = ["predict", str(camvid_bundle), str(tmp_path / "street.png"), "-o", str(tmp_path / "out")]
    main([*arguments, "--sink", "json", "--sink", "confidence"])
    assert names(tmp_path / "out") == ["classes.json", "street_confidence.png", "street_shares.json"]
    assert "--sink is called --save now: --save json,confidence" in capsys.readouterr().err
    [frame] = json.loads((tmp_path / "out" / "street_shares.json").read_text())["frames"]
    assert sum(frame["shares"].values()) == pytest.approx(1)
    for sink, why in [("jsn", "did you mean 'json'"), ("mp4", "is a picture; mp4 cannot be written of it, ids")]:
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--sink", sink])
        assert left.value.code == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "save", "expected"),
    [
        ("picture", None, {"street_ids.png", "street_overlay.png", "street_confidence.png"}),
        ("video", None, {"street_overlay.mp4", "street_confidence"}),
        ("video", "json,confidence", {"street_shares.json", "street_confidence"}),
        ("picture", "json", {"street_shares.json", "street_confidence.png"}),
    ],
)
def test_confidence_is_added_to_what_is_written(kind, save, expected):
    source = Source("street", lambda: frames(1), kind=kind)
    kinds = kinds_to_save(save, (), confidence=True)
    assert {target.name for target in targets_of(source, "out", kinds).values()} == expected


def test_confidence_is_given_to_a_sink_that_asks_and_costs_others_nothing(counter, camvid_bundle, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    predictor = Predictor(camvid_bundle)
    segment_video("count:2", predictor, tmp_path, sinks=["confidence"])
    drawn = np.asarray(Image.open(tmp_path / "count2_confidence" / "000001.png"))
    expected = predictor(next(reversed(list(frames(2)))).picture, confidence=True).confidence
    np.testing.assert_allclose(drawn, 255 * expected, atol=0.51)
    given = []

    @contextmanager
    def open(target, source, labels):
        yield lambda frame, prediction: given.append(prediction.confidence)

    segment_video("count:2", predictor, tmp_path, sinks=[SinkKind("_x", open)])
    assert given == [None, None]


@pytest.mark.parametrize("sink", ["mp4", "json", "notes"])
def test_of_a_source_that_fails_at_once_nothing_is_left(notes, bright, tmp_path, sink):
    def broken():
        raise DataError("no frame here")
        yield

    with pytest.raises(DataError, match="no frame here"):
        segment_video(Source("broken", broken), Predictor(bright), tmp_path, sinks=[sink])
    with pytest.raises(DataError, match="gave no frame"):
        segment_video(Source("empty", lambda: iter(())), Predictor(bright), tmp_path, sinks=[sink])
    assert names(tmp_path) == []


def test_of_a_source_that_fails_later_every_sink_keeps_what_came(bright, tmp_path, times):
    def damaged():
        yield from frames(3)
        raise DataError("it is cut off")

    with pytest.raises(DataError, match=r"it is cut off; what was finished is kept: 3 frames in .*mp4, .*json"):
        segment_video(Source("drive", damaged), Predictor(bright), tmp_path, sinks=["mp4", "json"])
    assert len(json.loads((tmp_path / "drive_shares.json").read_text())["frames"]) == 3
    assert len(times(tmp_path / "drive_overlay.mp4")[0]) == 3


def test_a_sink_that_cannot_write_ends_it_without_half_a_file(bright, tmp_path):
    @contextmanager
    def full(target, source, labels):
        def add(frame, prediction):
            raise KerbsegError("the disk is full")

        yield add

    with pytest.raises(KerbsegError, match="disk is full"):
        segment_video(Source("a", frames), Predictor(bright), tmp_path, sinks=["json", SinkKind("_full", full)])
    assert names(tmp_path) == []


def test_two_sources_of_one_name_are_refused_whatever_writes_them(counter, bright, tmp_path):
    with pytest.raises(KerbsegError, match=r"would both write count3_shares\.json"):
        predict_files(Predictor(bright), ["count:3", "count:03"], tmp_path / "out", sinks=["json"])
    assert not (tmp_path / "out").exists()


def test_frames_without_times_are_refused_by_a_video_file(bright, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    still = [Frame(np.zeros((32, 48, 3), np.uint8), i) for i in range(2)]
    with pytest.raises(InputError, match="frame 1 of the source is not later"):
        segment_video(still, Predictor(bright), tmp_path)
    assert names(tmp_path) == ["frames_overlay.mp4"]  # with the frame before
    assert segment_video(still, Predictor(bright), tmp_path, sinks=["ids"]).frames == 2


@pytest.mark.parametrize("gap_s", [0.04, 500])
def test_stamps_in_nanoseconds_become_the_times_of_a_file_to_the_microsecond(bright, tmp_path, times, gap_s):
    stamps_ns = [round(i * gap_s * 1e9) + 123 * i for i in range(4)]
    pictures = [Frame(np.zeros((32, 48, 3), np.uint8), i, stamp) for i, stamp in enumerate(stamps_ns)]
    assert [frame.time_ns for frame in pictures] == stamps_ns
    segment_video(pictures, Predictor(bright), tmp_path)
    went, _ = times(tmp_path / "frames_overlay.mp4")
    assert went == [Fraction(round(stamp / 1000), 10**6) for stamp in stamps_ns]


def test_a_pause_that_a_file_cannot_hold_is_told(bright, tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed")
    pictures = [Frame(np.zeros((32, 48, 3), np.uint8), i, 3600 * 10**9 * i) for i in range(2)]
    with pytest.raises(InputError, match="frame 1 of the source comes 3600 s after others before"):
        segment_video(pictures, Predictor(bright), tmp_path)


def test_a_video_is_iterated_over_frame_by_frame(bright, video_file, times, tmp_path):
    source = video_file(tmp_path / "drive.mkv", frames=7, codec="ffv1")
    predictor = Predictor(bright, channels="bgr")  # of arrays; a video's frames are RGB
    shown = []
    for frame, prediction in video(source, predictor):
        np.testing.assert_array_equal(prediction.picture, frame.picture)
        np.testing.assert_array_equal(prediction.ids, (frame.picture[..., 1] > 127).astype(np.uint8))
        assert frame.origin == str(source)
        shown.append((frame.index, frame.pts * frame.time_base))
    assert shown == list(enumerate(times(source)[0]))


def test_frames_that_the_caller_makes_are_a_video(bright):
    assert [prediction.ids.max() for _, prediction in video(frames(), Predictor(bright))] == [0, 0, 1]
    with pytest.raises(InputError, match="found ndarray"):
        list(video([np.zeros((4, 4, 3), np.uint8)], Predictor(bright)))


def test_a_video_that_is_none_is_told_at_once_and_a_damaged_one_after_its_frames(bright, tmp_path):
    with pytest.raises(DataError, match="is no picture, video, bag or stream"):
        video(tmp_path / "none.mp4", Predictor(bright))

    def damaged():
        yield from frames(2)
        raise DataError("it is cut off")

    seen = []
    with pytest.raises(DataError, match="cut off"):
        seen.extend(video(Source("x", damaged), Predictor(bright)))
    assert seen == [] or len(seen) == 2


def test_a_loop_that_is_left_closes_its_source(bright):
    closed = threading.Event()

    def endless():
        try:
            for i in itertools.count():
                yield Frame(np.zeros((4, 4, 3), np.uint8), i)
        finally:
            closed.set()

    items = endless()  # kept, so that only the loop can close it
    for frame, _ in video(items, Predictor(bright)):
        if frame.index == 2:
            break
    assert closed.wait(30)


def test_a_vote_over_time_works_frame_by_frame_and_has_no_confidence(made):
    pytest.importorskip("cv2", reason="opencv is not installed")
    sequence = iter([0, 0, 0, 5, 0])
    flash = made(lambda picture: np.full(picture.shape[:2], next(sequence), np.uint8))
    pictures = [Frame(np.zeros((32, 48, 3), np.uint8), i) for i in range(5)]
    winners = [int(prediction.ids.max()) for _, prediction in video(pictures, Predictor(flash), smooth=0.9)]
    assert winners == [0] * 5
    with pytest.raises(InputError, match="no confidence"):
        video(pictures, Predictor(flash), smooth=0.9, confidence=True)


def test_a_source_that_is_none_is_refused_at_once(bright):
    with pytest.raises(InputError, match="an iterable of Frame, found Predictor; the source comes first"):
        video(Predictor(bright), "drive.mp4")


def test_one_sink_is_named_without_a_list(bright, tmp_path):
    segment_video(frames(), Predictor(bright), tmp_path, sinks="json")
    assert [path.name for path in tmp_path.iterdir()] == ["frames_shares.json"]
