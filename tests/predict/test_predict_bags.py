"""Bags in and out: written by one library, read back by another, and what ends them early."""

import io
import signal
import struct
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_bags as made_up
from kerbseg.bundle import Bundle, load
from kerbseg.cli import main
from kerbseg.cli.predicting import bag_to_write
from kerbseg.cli.terminal import write_json, write_page
from kerbseg.core.errors import DataError, InputError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.export import export, pictures_of
from kerbseg.predict import Predictor, Stamp, VideoOptions, predict_files, video
from kerbseg.predict.bags import BagJob, bag_job, predict_bag
from kerbseg.predict.inputs import expand
from kerbseg.predict.sinks.bag import BagContents
from kerbseg.predict.sources import as_source, find_source, open_source
from kerbseg.robots.bags import open_bag
from kerbseg.robots.messages import IMAGE, header, serialize, typestore
from kerbseg.runtime import open_runtime

CAMERA = "/cam/image_raw"
MASK, CONFIDENCE, NAMES = (f"/cam/segmentation/{each}" for each in ("mask", "confidence", "label_info"))
MODEL = "mininet_v2_cpu-camvid"


@pytest.fixture
def frames():
    return made_up.pictures(7)


@pytest.fixture
def bag(tmp_path, frames):
    return made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: frames})


@pytest.fixture
def predictor(made):
    """Sees class 1 where it is bright, and is the surer the redder it is."""

    class Sure(made):
        def with_confidence(self, pictures):
            return self(pictures), np.stack([picture[..., 0] / np.float32(255) for picture in pictures])

    return Predictor(Sure(lambda picture: (picture[..., 1] > 127).astype(np.uint8)))


def by_topic(messages):
    topics = {}
    for topic, *rest in messages:
        topics.setdefault(topic, []).append(rest)
    return topics


def job(out, *words, **more):
    return BagJob(out, BagContents(words or ("ids", "confidence"), **more))


def test_a_bag_of_the_mcap_project_comes_back_with_ids_stamps_and_names(tmp_path, bag, frames, predictor):
    out = tmp_path / "out.mcap"
    predict_bag(predictor, bag, job(out))
    topics = by_topic(made_up.read_mcap(out))
    assert set(topics) == {CAMERA, "/chat", MASK, CONFIDENCE, NAMES}
    for n, ((log, mask, *_), (log2, confidence, *_)) in enumerate(zip(topics[MASK], topics[CONFIDENCE], strict=True)):
        expected = predictor(frames[n], channels="rgb", confidence=True)
        assert np.array_equal(made_up.gray_of(mask), expected.ids)
        assert np.array_equal(made_up.gray_of(confidence), np.round(expected.confidence * 255))
        for message in (mask, confidence):
            assert made_up.stamp_of(message) == made_up.START + n * made_up.STEP
            assert message.header.frame_id == "front_camera"
        assert log == log2 == made_up.START + n * made_up.STEP + made_up.LATE
    [(log, names, _, metadata)] = topics[NAMES]
    assert [each.class_name for each in names.class_map] == list(label_set("camvid").classes)
    assert [each.class_id for each in names.class_map] == list(range(11))
    assert log == made_up.START + made_up.LATE
    assert "durability: 1" in metadata["offered_qos_profiles"], "1 is transient local"


def test_all_that_was_recorded_is_copied_byte_for_byte_and_in_order(tmp_path, bag, predictor):
    out = tmp_path / "out.mcap"
    predict_bag(predictor, bag, job(out))
    before, after = made_up.read_mcap(bag), made_up.read_mcap(out)
    ours = {MASK, CONFIDENCE, NAMES}
    assert [(each[0], each[1], each[3]) for each in after if each[0] not in ours] == [
        (each[0], each[1], each[3]) for each in before
    ]
    places = [each[0] for each in after]
    assert places.index(NAMES) < places.index(CAMERA) < places.index(MASK)


def test_only_what_is_predicted_is_written_where_that_is_asked_for(tmp_path, bag, predictor):
    out = tmp_path / "out.mcap"
    predict_bag(predictor, bag, job(out, "ids", copy=False, prefix="/seg"))
    topics = by_topic(made_up.read_mcap(out))
    assert {topic: len(messages) for topic, messages in topics.items()} == {"/seg/mask": 7, "/seg/label_info": 1}


def test_an_overlay_is_a_jpeg_of_the_picture_under_its_colors(tmp_path, predictor):
    out, plain = tmp_path / "out.mcap", np.full((48, 64, 3), 200, np.uint8)
    plain[:, :32] = 40, 60, 90
    bag = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: [plain] * 7})
    predict_bag(predictor, bag, job(out, "overlay", copy=False))
    messages = by_topic(made_up.read_mcap(out))["/cam/segmentation/overlay/compressed"]
    assert [made_up.stamp_of(each[1]) for each in messages] == [made_up.START + n * made_up.STEP for n in range(7)]
    drawn = np.asarray(Image.open(io.BytesIO(messages[2][1].data)), np.int16)
    assert messages[2][1].format == "jpeg"
    assert abs(drawn - predictor(plain).blended).mean() < 4


@pytest.mark.parametrize("plugin", ["SQLITE3", "MCAP"])
def test_rosbag2_folders_go_in_and_come_out(tmp_path, frames, predictor, plugin):
    given = made_up.write_rosbag2(tmp_path / "drive", frames, plugin)
    out = tmp_path / "labeled"
    predict_bag(predictor, given, job(out))
    assert sorted(each.name for each in out.iterdir()) == ["labeled.mcap", "metadata.yaml"]
    topics = by_topic(made_up.read_mcap(out / "labeled.mcap"))
    assert np.array_equal(made_up.gray_of(topics[MASK][6][1]), predictor(frames[6]).ids)
    assert [each[1].data for each in topics["/chat"]] == [f"between {n}" for n in range(7)]
    assert as_source(out, topics=[CAMERA]).count() == 7, "what was written is a bag to us, too"


def test_a_ros1_bag_becomes_one_of_ros2(tmp_path, frames, predictor):
    given = made_up.write_ros1(tmp_path / "drive.bag", frames)
    out = tmp_path / "out.mcap"
    predict_bag(predictor, given, job(out))
    topics = by_topic(made_up.read_mcap(out))
    assert np.array_equal(made_up.gray_of(topics[MASK][3][1]), predictor(frames[3]).ids)
    camera = topics[CAMERA][3][1]
    assert (camera.data, made_up.stamp_of(camera)) == (frames[3].tobytes(), made_up.START + 3 * made_up.STEP)
    assert [each[1].data for each in topics["/chat"]] == [f"between {n}" for n in range(7)]
    assert "durability: 1" in topics["/chat"][0][3]["offered_qos_profiles"], "it was latched"


def test_two_cameras_are_asked_for_and_kept_apart(tmp_path, frames, predictor):
    cameras = {"/left/image": frames[:3], "/right/image": frames[3:5]}
    given = made_up.write_mcap(tmp_path / "drive.mcap", cameras)
    with pytest.raises(DataError, match="choose with --topic: /left/image, /right/image"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    both = BagJob(tmp_path / "out.mcap", BagContents(("ids",), copy=False), tuple(cameras))
    predict_bag(predictor, given, both)
    topics = by_topic(made_up.read_mcap(both.out))
    for topic, expected in cameras.items():
        masks = topics[f"{topic.removesuffix('/image')}/segmentation/mask"]
        assert [made_up.gray_of(each[1]).tolist() for each in masks] == [
            predictor(each).ids.tolist() for each in expected
        ]
    assert not list(tmp_path.glob(".kerbseg*"))


def test_cameras_under_one_name_get_topics_of_their_own():
    topics = BagContents().topics(["/cam/left", "/cam/right"])
    assert topics["/cam/left"].mask == "/cam/left/segmentation/mask"
    topics = BagContents(prefix="/seg").topics(["/cam/left", "/cam/right"])
    assert topics["/cam/right"].mask == "/seg/cam/right/mask"
    assert BagContents().topics(["/image"])["/image"].mask == "/segmentation/mask"


def test_compressed_pictures_are_predicted_as_their_files_are(tmp_path, frames, predictor):
    files = []
    for n, frame in enumerate(frames[:3]):
        Image.fromarray(frame).save(tmp_path / f"{n}.jpg", quality=95)
        files.append((tmp_path / f"{n}.jpg").read_bytes())
    given = made_up.write_mcap(tmp_path / "drive.mcap", {"/cam/image/compressed": files})
    predict_bag(predictor, given, job(tmp_path / "out.mcap", "ids"))
    masks = by_topic(made_up.read_mcap(tmp_path / "out.mcap"))["/cam/image/segmentation/mask"]
    assert [made_up.gray_of(each[1]).tolist() for each in masks] == [
        predictor(tmp_path / f"{n}.jpg").ids.tolist() for n in range(3)
    ]


def test_a_frame_says_where_it_comes_from(bag):
    last = list(as_source(bag))[-1]
    assert last.stamp == Stamp(
        CAMERA, "front_camera", made_up.START + 6 * made_up.STEP, made_up.START + 6 * made_up.STEP + made_up.LATE
    )
    assert (last.index, last.time_ns, last.origin) == (6, last.stamp.stamp_ns, str(bag))


def test_headers_without_a_time_or_with_one_that_goes_back_give_times_that_rise(tmp_path, frames):
    stamps = [0, made_up.START + 2 * made_up.STEP, made_up.START, made_up.START + 3 * made_up.STEP]
    given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: frames[:4]}, stamps=stamps)
    read = list(as_source(given))
    assert [each.stamp.stamp_ns for each in read] == stamps, "the stamps themselves stay"
    times = [each.time_ns for each in read]
    assert times[0] == made_up.START + made_up.LATE
    assert sorted(set(times)) == times


def cut(path, share=0.6):
    content = path.read_bytes()
    broken = path.with_name("cut.mcap")
    broken.write_bytes(content[: int(len(content) * share)])
    return broken


def test_of_a_bag_that_is_cut_off_what_is_whole_is_kept(tmp_path, bag, frames, predictor):
    broken, reports = cut(bag), []
    with pytest.raises(DataError, match=r"cut off; .* kept: 3 frames in"):
        predict_bag(predictor, broken, job(tmp_path / "out.mcap"), options=VideoOptions(on_report=reports.append))
    assert not reports[0].whole
    topics = by_topic(made_up.read_mcap(tmp_path / "out.mcap"))
    assert [made_up.gray_of(each[1]).tolist() for each in topics[MASK]] == [
        predictor(f).ids.tolist() for f in frames[:3]
    ]
    assert len(topics[CAMERA]) == 3


@pytest.mark.parametrize("compression", [None, "BZ2", "LZ4"])
def test_of_a_ros1_bag_without_its_index_the_whole_chunks_are_read(tmp_path, frames, predictor, compression):
    given = made_up.write_ros1(tmp_path / "drive.bag", frames, chunk_size=5000, compression=compression)
    whole = list(open_source(given))
    broken, read = cut(given, 0.6).rename(tmp_path / "cut.bag"), []
    with pytest.raises(DataError, match="cut off"):
        read.extend(open_source(broken))
    assert 2 <= len(read) < 7
    assert [each.stamp for each in read] == [each.stamp for each in whole[: len(read)]]
    assert all(np.array_equal(one.picture, other.picture) for one, other in zip(read, whole, strict=False))
    assert open_source(broken).count() == len(read)


def test_of_a_folder_whose_recorder_was_killed_the_file_is_read(tmp_path, frames, bag):
    folder = tmp_path / "killed"
    folder.mkdir()
    cut(bag).rename(folder / "killed_0.mcap")
    source, read = open_source(folder), []
    with pytest.raises(DataError, match="cut off"):
        read.extend(each.index for each in source)
    assert source.count() == len(read) == 3


def test_a_damaged_picture_is_left_out_and_counted(tmp_path, predictor):
    buffer = io.BytesIO()
    Image.fromarray(made_up.pictures(1)[0]).save(buffer, "JPEG")
    given = made_up.write_mcap(
        tmp_path / "drive.mcap", {CAMERA: [buffer.getvalue(), b"\xff\xd8 broken", buffer.getvalue()]}
    )
    with pytest.warns(KerbsegWarning, match="1 of 3 pictures of /cam/image_raw are damaged"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    topics = by_topic(made_up.read_mcap(tmp_path / "out.mcap"))
    assert [made_up.stamp_of(each[1]) for each in topics[MASK]] == [made_up.START, made_up.START + 2 * made_up.STEP]
    assert len(topics[CAMERA]) == 3, "what was recorded is copied all the same"


def test_an_encoding_that_is_not_read_ends_it_before_anything_is_written(tmp_path, predictor):
    deep = made_up.raw(np.zeros((4, 6, 2), np.uint8), made_up.START, "mono16")
    given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: [deep]})
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    assert [each.name for each in tmp_path.iterdir()] == ["drive.mcap"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.mcap", b"", "it is empty"),
        ("a.mcap", b"no bag at all" * 20, "it is no MCAP file"),
        ("a.db3", b"no bag at all" * 20, "file is not a database"),
        ("a.bag", b"no bag at all" * 20, "magic is invalid"),
        ("a.bag", b"#ROSBAG V1.2\n" * 20, "version 102 is not supported"),
    ],
)
def test_what_is_no_bag_is_said_and_leaves_nothing(tmp_path, predictor, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        predict_bag(predictor, tmp_path / name, job(tmp_path / "out.mcap"))
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_bag_of_something_else_than_ros_and_a_foreign_compression_are_said(tmp_path, predictor, bag):
    from mcap.writer import Writer

    with (tmp_path / "other.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start(profile="protobuf")
        writer.finish()
    with pytest.raises(DataError, match="Profile is not ros2"):
        open_source(tmp_path / "other.mcap")
    foreign = tmp_path / "foreign.mcap"
    foreign.write_bytes(bag.read_bytes().replace(b"\x04\x00\x00\x00zstd", b"\x04\x00\x00\x00zzzz"))
    with pytest.raises(DataError, match="Unsupported chunk compression 'zzzz'"):
        predict_bag(predictor, foreign, job(tmp_path / "out.mcap"))
    assert not (tmp_path / "out.mcap").exists()


def test_topics_that_are_not_there_or_no_pictures_are_said(bag):
    with pytest.raises(DataError, match="has no topic '/cam/image_row'; did you mean '/cam/image_raw'"):
        open_source(bag, topics=["/cam/image_row"])
    with pytest.raises(DataError, match=r"topic /chat of .* is std_msgs/msg/String, no picture"):
        open_source(bag, topics=["/chat"])


def test_a_folder_of_results_takes_a_bag_as_a_video(tmp_path, bag, predictor):
    predict_files(predictor, [bag], tmp_path / "out", sinks=["ids", "mp4"])
    assert len(list((tmp_path / "out" / "drive_ids").iterdir())) == 7
    [first, *_, last] = as_source(tmp_path / "out" / "drive_overlay.mp4")
    assert (first.time_ns, last.time_ns) == (0, 6 * made_up.STEP)
    assert [frame.index for frame, _ in video(bag, predictor)] == list(range(7))


def test_each_topic_is_a_video_of_its_own_name(tmp_path, frames, predictor):
    given = made_up.write_mcap(tmp_path / "drive.mcap", {"/left/image": frames[:2], "/right/image": frames[:2]})
    sources = predict_files(
        predictor, [given], tmp_path / "out", sinks=["json"], topics=["/left/image", "/right/image"]
    )
    assert [each.name for each in sources] == ["drive_left_image", "drive_right_image"]
    Image.fromarray(frames[0]).save(tmp_path / "street.png")
    with pytest.raises(KerbsegError, match="no input is one"):
        predict_files(predictor, [tmp_path / "street.png"], tmp_path / "out", topics=["/left/image"])


@pytest.mark.parametrize(
    ("out", "words", "more", "told"),
    [
        ("out", None, {"only": True}, "belong to a bag that is written"),
        ("out.mcap", ["side"], {}, "a bag holds no 'side'"),
        (None, ["bag"], {}, "name it: -o"),
        ("out.bag", ["bag"], {}, "name out.mcap"),
    ],
)
def test_what_a_bag_cannot_hold_is_said(out, words, more, told):
    with pytest.raises(KerbsegError, match=told):
        bag_job(None if out is None else Path(out), words, **more)


def test_a_bag_is_asked_for_by_its_name_or_by_word():
    assert bag_job(Path("out"), ["ids"]) is None
    assert bag_job(Path("out.mcap"), None).contents.words == ("ids", "confidence")
    assert bag_job(Path("out.mcap"), None, smooth=True).contents.words == ("ids",)
    assert bag_job(Path("out"), ["bag", "overlay"]).contents.words == ("overlay",)


def test_nothing_is_overwritten(tmp_path, bag, predictor):
    with pytest.raises(KerbsegError, match="overwrite the input"):
        predict_bag(predictor, bag, job(bag))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    with pytest.raises(KerbsegError, match="exists already"):
        predict_bag(predictor, bag, job(tmp_path / "full"))
    taken = BagJob(tmp_path / "out.mcap", BagContents(("ids",), prefix="/cam"), (CAMERA,))
    given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: made_up.pictures(1), "/cam/mask": made_up.pictures(1)})
    with pytest.raises(KerbsegError, match="topic /cam/mask is in the bag already; choose another name with --prefix"):
        predict_bag(predictor, given, taken)
    assert not (tmp_path / "out.mcap").exists()


def test_a_video_makes_no_bag(tmp_path, predictor, video_file):
    film = video_file(tmp_path / "film.mp4")
    with pytest.raises(InputError, match="no bag"):
        predict_bag(predictor, film, job(tmp_path / "out.mcap"))


def test_ctrl_c_leaves_a_whole_bag_up_to_the_last_frame(tmp_path, bag, predictor):
    def impatient(steps):
        for n, step in enumerate(steps):
            if n == 1:
                signal.raise_signal(signal.SIGINT)
            yield step

    with pytest.raises(KeyboardInterrupt):
        predict_bag(predictor, bag, job(tmp_path / "out.mcap"), progress=impatient)
    masks = by_topic(made_up.read_mcap(tmp_path / "out.mcap"))[MASK]
    assert 2 <= len(masks) <= 7


def test_a_full_disk_leaves_nothing_that_is_half_written(tmp_path, predictor, monkeypatch, frames):
    from rosbags.rosbag2.storage_mcap import McapWriter

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(McapWriter, "close_chunk", full)
    large = made_up.pictures(9, size=(240, 320))
    given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: large})
    with pytest.raises(KerbsegError, match=r"cannot write .*out\.mcap: No space left on device"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    assert [each.name for each in tmp_path.iterdir()] == ["drive.mcap"]


def test_few_frames_are_held_at_a_time(tmp_path, predictor):
    alive, most = [], 0

    class Watched:
        labels = predictor.labels

        def __call__(self, picture, **more):
            nonlocal most
            alive.append(1)
            weakref.finalize(picture, alive.pop)
            most = max(most, len(alive))
            return predictor(picture, **more)

    given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: made_up.pictures(60, (8, 8))})
    predict_bag(Watched(), given, job(tmp_path / "out.mcap"))
    assert most < 20


@pytest.mark.slow
def test_memory_of_1000_frames_is_that_of_100(tmp_path, predictor):
    peaks, one = [], made_up.pictures(1, size=(60, 80))[0]
    for count in (100, 1000):
        given = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: [one] * count}, chunk_size=100_000)
        tracemalloc.start()
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 900 * one.size / 20, f"{peaks[0]:,} and {peaks[1]:,} bytes"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["drive.mcap", "-o", "out.mcap"], 0, ""),
        (["cut.mcap", "-o", "out.mcap"], 1, "is cut off"),
        (["drive.mcap", "--topic", "/cam", "-o", "out.mcap"], 2, "has no topic '/cam'"),
        (["drive.mcap", "drive.mcap", "-o", "out.mcap"], 2, "one bag"),
        (["drive.mcap", "--only"], 2, "belong to a bag"),
        (["drive.mcap", "-o", "out.mcap", "--smooth", "0.7", "--confidence"], 2, "a vote over time has no confidence"),
        (["drive.mcap", "-o", "out.mcap", "--legend"], 2, "--legend is of pictures and videos"),
        (["drive.mcap", "-o", "out.mcap", "--show"], 2, "--show is of pictures and videos"),
        (["drive.mcap", "-o", "out.mcap", "--raw", "3x4@5"], 2, "--raw is of"),
        (["drive.mcap", "-o", "out.mcap", "--sink", "ids"], 2, "--sink is of"),
        (["drive.mcap", "-o", "out.mcap", "--measure", "margin", "--save", "ids"], 2, "--measure margin is of"),
    ],
)
def test_the_command_says_what_came_of_it_in_one_line(tmp_path, bag, monkeypatch, capsys, arguments, status, told):
    cut(bag)
    monkeypatch.chdir(tmp_path)
    code = 0
    try:
        main(["predict", MODEL, *arguments])
    except SystemExit as end:
        code = end.code or 0
    assert code == status
    said = capsys.readouterr()
    if told:
        assert told in said.err
        assert len(said.err.splitlines()) == 1
    assert (tmp_path / "out.mcap").exists() == (status < 2)


@pytest.mark.parametrize(
    ("save", "smooth", "held"),
    [
        (None, None, ("ids", "confidence")),
        ("bag", None, ("ids", "confidence")),
        ("ids", None, ("ids", "confidence")),
        ("overlay", None, ("overlay", "confidence")),
        (None, 0.7, ("ids", "confidence")),
    ],
)
def test_confidence_that_is_asked_for_goes_into_a_bag_beside_what_else_is(save, smooth, held):
    made = bag_to_write(["drive.mcap"], Path("out.mcap"), save, (), False, None, True, smooth)
    assert made.contents.words == held


@pytest.mark.parametrize("write", [write_json, write_page])
def test_figures_do_not_take_the_place_of_the_results_that_they_are_of(bag, write):
    before = bag.read_bytes()
    with pytest.raises(KerbsegError, match=r"drive.mcap is no .*; name another file, so that it is not lost"):
        write(bag, "")
    assert bag.read_bytes() == before


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_what_a_bag_leaves_unknown_is_what_torchs_softmax_is_unsure_of(suffix, tmp_path):
    size, threshold = (64, 96), 0.5
    bundle = load(MODEL)
    bundle = Bundle(bundle.model, replace(bundle.card, input_size=size))
    shown = np.stack(pictures_of(open_dataset("scenes", "val"), size, 2))
    export(bundle, tmp_path / f"m{suffix}", pictures=shown[:1])
    drive = made_up.write_mcap(tmp_path / "drive.mcap", {CAMERA: list(shown)})
    out = tmp_path / "out.mcap"
    main(["predict", str(tmp_path / f"m{suffix}"), str(drive), "-o", str(out), "--unknown", str(threshold), "--only"])
    topics = by_topic(made_up.read_mcap(out))
    masks = np.stack([made_up.gray_of(each[1]) for each in topics[MASK]])
    levels = np.stack([made_up.gray_of(each[1]) for each in topics[CONFIDENCE]])
    logits = open_runtime(bundle).upsampled_logits(shown).double()
    expected = (logits / bundle.card.temperature).softmax(1).amax(1).numpy()
    clear = np.abs(expected - threshold) > 1 / 255  # nearer, rounding decides
    assert 0.01 < (masks == 255).mean() < 0.9
    assert ((masks == 255) == (expected < threshold))[clear].mean() >= 0.999
    assert (np.abs(levels / 255 - expected) <= 1 / 255 + 1e-9).mean() >= 0.999


def test_a_folder_of_pictures_in_which_a_bag_lies_is_no_bag(bag, frames, tmp_path):
    assert find_source(tmp_path).kind == "video"
    Image.fromarray(frames[0]).save(tmp_path / "street.png")
    assert find_source(tmp_path) is None
    assert sorted(str(source.path) for source in expand([tmp_path]).sources) == [str(bag), str(tmp_path / "street.png")]


def spoiled(path, given):
    """An MCAP file of `(topic, type, text, log time, bytes)`, by the mcap project's own writer."""
    from mcap.writer import Writer

    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        channels = {}
        for topic, name, text, log, data in given:
            if (topic, name) not in channels:
                schema = writer.register_schema(name, "ros2msg", text.encode())
                channels[topic, name] = writer.register_channel(topic, "cdr", schema, {})
            writer.add_message(channels[topic, name], log, data, log)
        writer.finish()
    return path


def image_message(pixels, stamp_ns=made_up.START):
    height, width = pixels.shape[:2]
    head = header(stamp_ns, "front_camera")
    return typestore().types[IMAGE](head, height, width, "rgb8", 0, 3 * width, pixels.reshape(-1))


def impossible_time(seconds, nanoseconds):
    def change(data):
        return data[:4] + struct.pack("<iI", seconds, nanoseconds) + data[12:]

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:40],
        lambda data: b"",
        lambda data: data.replace(b"front_camera", b"\xff\xfe\xfd\xfct_camera"),
        impossible_time(5, 2_000_000_000),
        impossible_time(2**31 - 1, 2_000_000_000),
    ],
    ids=["cut off", "empty", "no text", "more than a second", "more than a header holds"],
)
def test_a_message_that_is_none_costs_no_picture_but_its_own(tmp_path, frames, predictor, spoil):
    data = [serialize(image_message(frames[n], made_up.START + n)) for n in range(4)]
    data[1] = spoil(data[1])
    messages = [(CAMERA, IMAGE, made_up.IMAGE, made_up.START + n, each) for n, each in enumerate(data)]
    given = spoiled(tmp_path / "drive.mcap", messages)
    out = tmp_path / "out.mcap"
    with pytest.warns(KerbsegWarning, match="1 of 4 pictures of /cam/image_raw are damaged, and are left out"):
        predict_bag(predictor, given, job(out))
    with open_bag(out) as bag:
        copied = [each.data for each in bag.messages() if each.channel.topic == CAMERA]
        masks = [each.log_ns - made_up.START for each in bag.messages([MASK])]
    assert copied == data, "what was recorded is copied all the same"
    assert masks == [0, 2, 3]


def test_an_error_of_a_message_says_where_it_is(tmp_path, predictor):
    given = spoiled(tmp_path / "drive.mcap", [(CAMERA, IMAGE, made_up.IMAGE, made_up.START, b"")])
    told = r"a message of /cam/image_raw in .*drive.mcap cannot be read as sensor_msgs/msg/Image; it is cut off"
    with (
        pytest.warns(KerbsegWarning, match="1 of 1 pictures"),
        pytest.raises(DataError, match=told),
    ):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))


def test_a_topic_that_has_messages_of_another_type_too_gives_its_pictures(tmp_path, frames, predictor):
    text = b"\0\1\0\0\3\0\0\0hi\0"
    given = spoiled(
        tmp_path / "drive.mcap",
        [
            (CAMERA, IMAGE, made_up.IMAGE, 10, serialize(image_message(frames[0]))),
            (CAMERA, "std_msgs/msg/String", "string data\n", 20, text),
            (CAMERA, IMAGE, made_up.IMAGE, 20, serialize(image_message(frames[1]))),
        ],
    )
    source = open_source(given)
    assert (source.count(), [frame.index for frame in source]) == (2, [0, 1])
    predict_bag(predictor, given, job(tmp_path / "out.mcap", "ids"))
    with open_bag(tmp_path / "out.mcap") as bag:
        order = [(each.channel.topic, each.channel.type, each.log_ns) for each in bag.messages()]
    assert order[1:] == [
        (CAMERA, IMAGE, 10),
        (MASK, IMAGE, 10),
        (CAMERA, "std_msgs/msg/String", 20),
        (CAMERA, IMAGE, 20),
        (MASK, IMAGE, 20),
    ], "a mask comes behind its own picture"


def test_a_topic_without_messages_is_said(tmp_path, predictor):
    given = made_up.write_rosbag2(tmp_path / "drive", [])
    with pytest.raises(DataError, match="drive holds no message of /cam/image_raw; choose another topic"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    assert not (tmp_path / "out.mcap").exists()


def test_a_message_of_ros1_that_is_none_is_left_out_and_counted(tmp_path, frames, predictor):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    given = tmp_path / "drive.bag"
    with Writer(given) as writer:
        camera = writer.add_connection(CAMERA, IMAGE, typestore=store)
        chat = writer.add_connection("/chat", "std_msgs/msg/String", typestore=store)
        for n, data in enumerate([b"\2\0\0\0hi", b"\xff\0\0\0hi", b"", b"\2\0\0\0ho"]):
            stamp = made_up.START + n * made_up.STEP
            image = made_up._image(store, frames[n], stamp, n)
            writer.write(camera, stamp, store.serialize_ros1(image, IMAGE))
            writer.write(chat, stamp + 1, data)
    with pytest.warns(KerbsegWarning, match="2 messages of /chat cannot be read as their type, and are not copied"):
        predict_bag(predictor, given, job(tmp_path / "out.mcap"))
    topics = by_topic(made_up.read_mcap(tmp_path / "out.mcap"))
    assert [each[1].data for each in topics["/chat"]] == ["hi", "ho"]
    assert len(topics[MASK]) == len(topics[CAMERA]) == 4


@pytest.mark.parametrize("prefix", ["/", "/x y", "/a__b", "/1cam", "//cam", "/cam/*"])
def test_a_prefix_that_ros_does_not_take_is_refused(tmp_path, prefix):
    with pytest.raises(KerbsegError, match=r"--prefix '.*' is no name of ROS"):
        bag_job(tmp_path / "out.mcap", None, prefix=prefix)


@pytest.mark.parametrize(("prefix", "taken"), [("front", "/front"), ("/front/", "/front"), ("/a/b", "/a/b")])
def test_a_prefix_is_a_whole_name(tmp_path, prefix, taken):
    made = bag_job(tmp_path / "out.mcap", None, prefix=prefix)
    assert made.contents.prefix == taken


@pytest.mark.parametrize("name", ["out.db3", "out.bag", "OUT.BAG"])
def test_a_bag_of_another_form_is_refused_with_and_without_its_word(tmp_path, name):
    for words in (None, ["ids"], ["bag"]):
        with pytest.raises(KerbsegError, match="bags are written as MCAP"):
            bag_job(tmp_path / name, words)
    (tmp_path / name).mkdir()
    assert bag_job(tmp_path / name, None) is None, "a folder of that name may be there"


def test_names_in_large_letters_are_read(tmp_path, bag, frames):
    (tmp_path / "killed").mkdir()
    for each in (tmp_path / "DRIVE.MCAP", tmp_path / "killed" / "drive_0.MCAP"):
        each.write_bytes(bag.read_bytes())
    for each in (tmp_path / "DRIVE.MCAP", tmp_path / "killed"):
        assert len(list(open_source(each))) == len(frames)
