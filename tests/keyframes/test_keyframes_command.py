"""`kerbseg keyframes` from end to end, and the stream that it is made of."""

import csv
import json
import signal
import weakref
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kerbseg.apps import keyframes as app
from kerbseg.apps.keyframe_page import Album
from kerbseg.cli import main
from kerbseg.core.errors import DataError, InputError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes
from kerbseg.keyframes import Kept, Keyframe, Options, Timeline, keyframes, open_sequence, summary
from kerbseg.keyframes.quality import Measures
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.semantics import Semantics
from kerbseg.keyframes.sequences import FrameSequence
from kerbseg.predict import Prediction
from kerbseg.predict.sources import Frame, Source

pytest.importorskip("cv2")
COUNT, SIZE = 24, (48, 72)
LABELS = label_set("camvid")


class Seeing:
    """A predictor whose pedestrian is whatever is red."""

    labels = LABELS
    runtime = SimpleNamespace(card=SimpleNamespace(model="seeing"), name="none", precision="float32")

    def __call__(self, picture, /, *, channels="rgb", confidence=False):
        red = (picture[..., 0] > 200) & (picture[..., 1] < 60)
        return Prediction(np.where(red, 9, 3).astype(np.uint8), LABELS, picture=picture)


def pictures(count=COUNT):
    """A street that passes by, and somebody red who walks in from the right and out again."""
    street = np.concatenate([each.image for each in (Scenes("val", size=SIZE)[i] for i in range(3))], 1)
    for i in range(count):
        picture = street[:, 4 * i : 4 * i + SIZE[1]].copy()
        picture[10:30, max(0, SIZE[1] - 5 * i) : max(0, SIZE[1] - 5 * i + 12)] = (250, 0, 0)
        yield picture


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "drive"
    place.mkdir()
    for i, picture in enumerate(pictures()):
        Image.fromarray(picture).save(place / f"{i:04}.png")
    return place


def run(capsys, *arguments):
    main(["keyframes", *map(str, arguments)])
    return capsys.readouterr().out


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        run(capsys, *arguments)
    assert left.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_command_writes_all_that_it_says(folder, camvid_bundle, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [camvid_bundle, folder, "--fps", 10, "--target", "road,car", "--target", "tree", "--budget", 3000]
    printed = run(capsys, *arguments, "-o", out, "--json", tmp_path / "figures.json")
    chosen, scores = rows(out / "keyframes.csv"), rows(out / "scores.csv")
    assert len(scores) == COUNT
    assert f"{len(chosen)} keyframes of {COUNT} frames of" in printed
    assert 1 < len(chosen) < COUNT
    for row in chosen:
        assert (out / row["file"]).is_file()
        assert float(scores[int(row["index"])]["motion"]) == float(row["motion"])
    record = json.loads((out / "keyframes.json").read_text())
    assert record["settings"]["target"] == ["road", "car", "tree"]
    assert record["whole"]
    assert record["layout"] == "pictures"
    assert all((out / name).is_file() for name in record["files"])
    assert json.loads((tmp_path / "figures.json").read_text())["chosen"]["keyframes"] == len(chosen)
    page = (out / "keyframes.html").read_text()
    assert "plain rule" in page
    assert page.count("<img") >= len(chosen)
    assert "http" not in page.replace("http://www.w3.org", "")
    records = [json.loads(line) for line in (out / "sent/records.jsonl").read_text().splitlines()]
    assert [each["index"] for each in records] == [int(row["index"]) for row in chosen]
    assert all(len(json.dumps(each)) < 1500 for each in records)
    sent = rows(out / "sent.csv")
    assert len(sent) == COUNT
    assert {f"{int(each['index']):06d}.jpg" for each in sent if each["sent"] == "1"} == {
        each.name for each in (out / "sent").glob("*.jpg")
    }


def write(source, out, **job):
    """What the command does, by a predictor that needs no network."""
    target = job.pop("target", ("pedestrian",))
    options = Options(longest_s=0.8, rule=job.pop("online", "window"))
    return app.write_keyframes(Seeing(), source, app.Job(target, out, options=options, **job))


def test_two_runs_are_identical_and_the_second_leaves_nothing_of_the_first(folder, tmp_path):
    sequence, one, other = open_sequence(folder, fps=10), tmp_path / "one", tmp_path / "other"
    write(sequence, one)
    write(sequence, other, format="kitti", bytes_per_s=3000)
    (other / "mine.txt").write_text("mine")
    write(sequence, other)
    files = [
        {str(each.relative_to(place)): each for each in place.rglob("*") if each.is_file()} for place in (one, other)
    ]
    assert files[1].pop("mine.txt").read_text() == "mine"
    assert {name: path.read_bytes() for name, path in files[0].items()} == {
        name: path.read_bytes() for name, path in files[1].items()
    }


@pytest.mark.parametrize("rule", ["window", "gate", "first", "middle", "dp", "coverage"])
def test_every_rule_gives_keyframes(rule, folder, tmp_path):
    online = "window" if rule in ("dp", "coverage") else rule
    report = write(open_sequence(folder, fps=10), tmp_path / "out", rule=rule, online=online)
    indices = [int(row["index"]) for row in rows(tmp_path / "out/keyframes.csv")]
    assert indices
    assert indices == sorted(set(indices))
    assert report.chosen["keyframes"] == len(indices)


def test_a_video_and_all_its_frames(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "drive.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in pictures():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    out, sequence = tmp_path / "out", open_sequence(tmp_path / "drive.mp4")
    write(sequence, out, format="tum", keep_all=True)
    assert len(open_sequence(out).entries) == COUNT
    assert len(rows(out / "keyframes.csv")) < COUNT
    write(sequence, out, format="tum", rule="dp", count=3)
    assert len(open_sequence(out).entries) == 3
    assert len(list((out / "rgb").iterdir())) == 3


def test_a_rule_for_the_whole_sequence_holds_few_pictures(folder, tmp_path, monkeypatch):
    held = []
    again = app._Work._pictures

    def counted(work, wanted):
        for i, picture in again(work, wanted):
            held.append(weakref.ref(picture))
            yield i, picture
            del picture
            assert sum(each() is not None for each in held) <= 6

    monkeypatch.setattr(app._Work, "_pictures", counted)
    report = write(open_sequence(folder, fps=10), tmp_path / "out", rule="coverage", count=12)
    assert report.chosen["keyframes"] == 12
    chosen = rows(tmp_path / "out/keyframes.csv")
    for row in chosen:
        assert (tmp_path / "out" / row["file"]).name == f"{int(row['index']):04}.png"


def test_a_video_that_got_shorter_is_noticed(tmp_path):
    counts = iter([COUNT, 2])
    source = Source("made", lambda: iter(frames_of(pictures(next(counts)))), path=tmp_path / "made.mp4")
    with pytest.raises(DataError, match="shorter"):
        write(FrameSequence(source, "video"), tmp_path / "out", rule="dp", count=3)


def test_instants_of_a_slam_system(folder, tmp_path):
    out = tmp_path / "out"
    write(open_sequence(folder, fps=10), out, due_ns=(500_000_000, 1_500_000_000), rule="first", online="first")
    assert [row["index"] for row in rows(out / "keyframes.csv")][:2] == ["5", "15"]
    with pytest.raises(InputError, match="same beginning"):
        write(open_sequence(folder, fps=10), out, due_ns=(10**18,))
    with pytest.warns(KerbsegWarning, match="1 of 2 times of the SLAM system is near no frame and left out"):
        write(open_sequence(folder, fps=10), out, due_ns=(500_000_000, 10**18), rule="first", online="first")
    with pytest.warns(KerbsegWarning, match="2 of 3 times of the SLAM system are near no frame"):
        write(open_sequence(folder, fps=10), out, due_ns=(500_000_000, 10**18, 10**18), rule="first", online="first")


@pytest.mark.parametrize("layout", ["tum", "euroc", "kitti"])
def test_pictures_of_several_sizes_are_told_where_a_slam_system_reads_them(layout, folder, tmp_path):
    with Image.open(folder / "0003.png") as picture:
        picture.resize((36, 24)).save(folder / "0003.png")
    with pytest.warns(KerbsegWarning, match="pictures of 2 sizes \\(36x24, 72x48\\), and a SLAM system expects one"):
        write(open_sequence(folder, fps=10), tmp_path / "out", format=layout, keep_all=True)


def test_a_target_of_which_only_parts_are_seen_has_no_share():
    figures = {"target_ratio": None, "part_share": 1.0, "quality": 0.5}
    assert app._line("chosen", figures) == "  chosen: mean quality 0.50; no target seen whole"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--target", "pedestrain"], "did you mean 'pedestrian'"),
        (["--target", ","], "no target class"),
        (["--target", "car", "--format", "tmu"], "did you mean 'tum'"),
        (["--target", "car", "--count", "3"], "the rule window takes no count; the rules dp and coverage do"),
        (["--target", "car", "--rule", "dp", "--count", "0"], "a count of 0 keyframes; it must be 1 or more"),
        (["--target", "car", "--step", "0"], "above 0"),
        (["--target", "car", "--budget", "0"], "above 0"),
        (["--target", "car", "--budget", "inf"], "above 0"),
        (["--target", "car", "--longest", "inf"], "above 0"),  # JSON has no infinity for keyframes.json
        (["--target", "car", "--due", "none.txt"], "none.txt cannot be read: No such file or directory"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(more, says, folder, camvid_bundle, tmp_path, capsys):
    line = refused(capsys, camvid_bundle, folder, "--fps", 10, "-o", tmp_path / "out", *more)
    assert says in line
    assert not (tmp_path / "out").exists()


def test_the_sequence_itself_is_never_written_to(folder, camvid_bundle, capsys):
    before = sorted(folder.iterdir())
    line = refused(capsys, camvid_bundle, folder, "--fps", 10, "--target", "car", "-o", folder)
    assert "name another one" in line
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "more"),
    [
        ("image_0", {"format": "kitti"}),  # 000000.png would be another frame
        ("rgb", {"format": "tum"}),
        ("mav0/cam0/data", {"format": "euroc"}),
        ("frames", {}),  # a later run would take away what this one lists
        ("sent", {"format": "colmap", "bytes_per_s": 1e4}),
    ],
)
def test_no_result_is_written_into_the_folder_of_the_pictures(place, more, folder, tmp_path):
    (tmp_path / "all" / place).parent.mkdir(parents=True)
    given = folder.rename(tmp_path / "all" / place)
    before = {each: each.read_bytes() for each in given.iterdir()}
    with pytest.raises(KerbsegError, match="name another folder, so that no picture is lost"):
        app.write_keyframes(Seeing(), open_sequence(given, 10), app.Job(("pedestrian",), tmp_path / "all", **more))
    assert {each: each.read_bytes() for each in given.iterdir()} == before


@pytest.mark.parametrize("layout", ["frames", "colmap"])
@pytest.mark.parametrize("by", ["a folder", "a pattern"])
def test_what_an_earlier_run_has_written_is_no_sequence_for_the_same_folder(layout, by, folder, tmp_path):
    out = tmp_path / "out"
    app.write_keyframes(Seeing(), open_sequence(folder, 10), app.Job(("pedestrian",), out, format="tum"))
    before = {each: each.read_bytes() for each in out.rglob("*") if each.is_file()}
    given = out / "rgb" if by == "a folder" else out / "rgb" / "*.png"
    with pytest.raises(KerbsegError, match="name another folder, so that no picture is lost"):
        app.write_keyframes(Seeing(), open_sequence(given, 10), app.Job(("pedestrian",), out, format=layout))
    assert {each: each.read_bytes() for each in out.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize(
    ("layout", "listing", "text", "words"),
    [
        ("kitti", "poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", f"has 1 poses for {COUNT} pictures"),
        ("tum", "associations.txt", "0.0 rgb/0.png 0.0 depth/0.png\n", "lists depth/0.png, which is not there"),
        ("tum", "associations.txt", "0.0 rgb/0.png\n", "line 1 of .* is no 'time color time depth'"),
    ],
)
def test_a_fault_beside_the_pictures_is_told_before_anything_is_written(layout, listing, text, words, folder, tmp_path):
    (folder / listing).write_text(text)
    with pytest.raises(KerbsegError, match=words):
        app.write_keyframes(
            Seeing(), open_sequence(folder, 10), app.Job(("pedestrian",), tmp_path / "out", format=layout)
        )
    assert not (tmp_path / "out").exists()


def test_colmap_may_list_pictures_beside_its_lists(folder, tmp_path):
    given = folder.rename(tmp_path / "images")
    for _ in range(2):
        app.write_keyframes(Seeing(), open_sequence(given, 10), app.Job(("pedestrian",), tmp_path, format="colmap"))
    assert len([*given.iterdir()]) == COUNT
    assert (tmp_path / "image_list.txt").is_file()


@pytest.mark.parametrize("name", ["times.txt", "poses.txt"])
def test_lists_of_others_stay(name, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("0.0\n")
    with pytest.raises(KerbsegError, match="not of an earlier run"):
        app.write_keyframes(
            Seeing(), open_sequence(folder, 10), app.Job(("pedestrian",), tmp_path / "out", format="kitti")
        )
    assert [each.name for each in (tmp_path / "out").iterdir()] == [name]


def test_figures_are_what_their_names_say():
    scores = [
        FrameScores(i, i * 10**9, quality, 0.0, 10.0, semantics=Semantics(whole, part))
        for i, (quality, whole, part) in enumerate([(1.0, 0.1, 0.0), (0.5, 0.0, 0.2), (0.8, 0.3, 0.1), (0.9, 0.0, 0.0)])
    ]
    figures = summary(Timeline.of(scores), [0, 2])
    assert figures["keyframes"] == 2
    assert figures["reduction"] == 0.5
    assert figures["quality"] == pytest.approx(0.9)
    assert figures["target_ratio"] == pytest.approx(0.2 / 0.1)
    assert figures["part_share"] == pytest.approx(0.1 / 0.5)
    assert (figures["largest_gap_frames"], figures["largest_gap_s"]) == (2, 2.0)
    assert figures["largest_gap_steps"] == pytest.approx(20 / 15)
    assert figures["coverage"] == pytest.approx((0.1 * 1.0 + 0.3 * 0.8) / 0.4)
    assert summary(Timeline.of(scores), [])["keyframes"] == 0
    nothing = summary(Timeline.of([FrameScores(0, 0, 0.0)]), [0])
    assert (nothing["target_ratio"], nothing["part_share"], nothing["coverage"]) == (None, None, None)


def test_a_first_frame_that_is_dark_is_dark_in_the_figures_too():
    good, dark = Measures(2, 0.8, 0.4, 0, 0), Measures(2, 0.8, 0.1, 0, 0)
    scores = [FrameScores(i, i, 1.0, measures=good if i else dark) for i in range(40)]
    timeline = Timeline.of(scores)
    assert timeline["Q"][0] == 1
    assert timeline.judged_again()["Q"].tolist() == [0.25, *[1.0] * 39]


def test_the_album_holds_a_bounded_number_of_pairs():
    album = Album(LABELS, [9], lambda scores: f"frame {scores.index}")
    kept = Kept(np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.uint8))
    for i in range(500):
        scores = FrameScores(i, i, 1.0)
        album.add(Keyframe(scores, i, i, i, "time", 0.0, scores, kept, kept))
    numbers = [each.number for each in album.pairs]
    assert 12 < len(numbers) <= 48
    assert len({later - earlier for earlier, later in pairwise(numbers)}) == 1
    assert album.total == 500


# ---- the stream


def frames_of(made):
    return [Frame(picture, i, i * 100_000_000) for i, picture in enumerate(made)]


def test_the_stream_takes_who_is_seen_whole():
    """Somebody red is seen whole in frame 2, at the border in frame 5, when a frame is due."""

    def made(path):
        street = Scenes("val", size=SIZE)[0].image
        for column in path:
            picture = street.copy()
            picture[10:30, max(0, column) : max(0, column + 12)] = (250, 0, 0)
            yield picture

    path = [60, 50, 30, 20, 10, -4]
    options = Options(longest_s=0.5)
    [chosen] = keyframes(frames_of(made(path)), Seeing(), ["pedestrian"], options)
    assert (chosen.scores.semantics.part, chosen.plain.semantics.whole) == (0, 0)
    assert chosen.scores.index in (1, 2, 3, 4)
    assert chosen.plain.index == 5
    assert chosen.plain.semantics.part > 0
    assert (chosen.kept.picture == list(made(path))[chosen.scores.index]).all()
    assert chosen.kept_plain.ids.shape == SIZE


def test_a_size_that_changes_is_a_new_shot():
    made = [*[next(pictures())] * 6, *[next(pictures())[:, :40]] * 6]
    windows = [(each.first, each.last, each.why) for each in keyframes(frames_of(made), Seeing(), ["pedestrian"])]
    assert windows == [(0, 5, "cut"), (6, 11, "end")]


def test_a_source_that_ends_early_leaves_what_was_chosen(tmp_path):
    def damaged():
        yield from frames_of(pictures())[:16]
        raise DataError("damaged after frame 16")

    with pytest.raises(DataError, match="keyframes until then are in"):
        write(FrameSequence(Source("made", damaged), "video"), tmp_path / "out")
    record = json.loads((tmp_path / "out/keyframes.json").read_text())
    assert not record["whole"]
    assert record["chosen"]["frames"] == 16
    assert rows(tmp_path / "out/keyframes.csv")


def test_ctrl_c_leaves_what_was_chosen(tmp_path):
    def endless():
        for i, frame in enumerate(frames_of(pictures())):
            yield frame
            if i == 15:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(FrameSequence(Source("made", endless), "video"), tmp_path / "out")
    assert rows(tmp_path / "out/keyframes.csv")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_rules_for_whole_sequences_take_no_stream(tmp_path):
    sequence = FrameSequence(Source("camera", lambda: iter(())), "video")
    with pytest.raises(InputError, match="once"):
        write(sequence, tmp_path / "out", rule="dp")
    with pytest.raises(KerbsegError, match="no frame"):
        write(sequence, tmp_path / "out")
