"""`kerbseg doctor BAG`: figures against bags whose faults are known."""

import json

import numpy as np
import pytest
from PIL import Image

import made_bags as made
from kerbseg.cli import main
from kerbseg.core.errors import DataError
from kerbseg.robots.bag_report import examine_bag

CAMERA = "/cam/image_raw"


def of(report, topic):
    return next(each for each in report.topics if each.topic == topic)


def test_rates_sizes_and_kinds_are_those_that_were_written(tmp_path):
    report = examine_bag(made.write_mcap(tmp_path / "drive.mcap", {CAMERA: made.pictures(9)}))
    camera, chat = of(report, CAMERA), of(report, "/chat")
    assert (camera.type, camera.messages, camera.hz, camera.gaps) == ("sensor_msgs/Image", 9, 25.0, 0)
    assert camera.pictures == {"rgb8 24x32": 9}
    assert (camera.missing_stamps, camera.backward_stamps) == (0, 0)
    assert (chat.missing_stamps, chat.longest_gap_s) == (None, 0.04)
    assert report.problems == []
    assert report.duration_s == pytest.approx((8.5 * made.STEP) / 1e9)


def test_a_gap_is_found_where_it_is(tmp_path):
    stamps = [made.START + (n + 5 * (n > 3)) * made.STEP for n in range(9)]
    camera = of(examine_bag(made.write_mcap(tmp_path / "a.mcap", {CAMERA: made.pictures(9)}, stamps=stamps)), CAMERA)
    assert (camera.gaps, camera.longest_gap_s, camera.longest_gap_at_s) == (1, 0.24, 0.12)
    assert camera.hz == 25.0


def test_stamps_that_lack_or_go_back_are_counted(tmp_path):
    stamps = [made.START, 0, made.START + made.STEP, made.START - made.STEP, made.START]
    report = examine_bag(made.write_mcap(tmp_path / "a.mcap", {CAMERA: made.pictures(5)}, stamps=stamps))
    camera = of(report, CAMERA)
    assert (camera.missing_stamps, camera.backward_stamps) == (1, 1)
    assert report.problems == [
        f"{CAMERA}: 1 header without a time",
        f"{CAMERA}: 1 header with a time before the one before it",
    ]


def test_pictures_that_are_not_read_and_a_bag_that_is_cut_off_are_problems(tmp_path):
    deep = made.raw(np.zeros((4, 6, 2), np.uint8), made.START, "mono16")
    frames = [deep, *made.pictures(8)]
    bag = made.write_mcap(tmp_path / "a.mcap", {CAMERA: frames})
    bag.write_bytes(bag.read_bytes()[:-1000])
    report = examine_bag(bag)
    assert "cut off" in report.problems[0]
    assert "mono16" in report.problems[1]
    with pytest.raises(DataError, match="does not exist"):
        examine_bag(tmp_path / "none.mcap")


def test_ros1_and_compressed_pictures_are_looked_into(tmp_path):
    report = examine_bag(made.write_ros1(tmp_path / "drive.bag", made.pictures(4)))
    assert (report.ros, of(report, CAMERA).missing_stamps, of(report, CAMERA).hz) == (1, 0, 25.0)
    Image.fromarray(made.pictures(1)[0]).save(tmp_path / "a.jpg")
    frames = [(tmp_path / "a.jpg").read_bytes(), b"\xff\xd8 no more"]
    report = examine_bag(made.write_mcap(tmp_path / "drive.mcap", {CAMERA: frames}))
    assert of(report, CAMERA).pictures == {"jpeg 24x32": 1}
    assert "cannot be read as a picture" in report.problems[0]


def test_the_command_shows_and_writes_them(tmp_path, capsys):
    bag = made.write_mcap(tmp_path / "drive.mcap", {CAMERA: made.pictures(4)})
    main(["doctor", str(bag), "--json", str(tmp_path / "bag.json")])
    told = capsys.readouterr().out
    assert "/cam/image_raw" in told
    assert "healthy" in told
    written = json.loads((tmp_path / "bag.json").read_text())
    assert written["topics"][0]["pictures"] == {"rgb8 24x32": 4}
    bag.write_bytes(bag.read_bytes()[:-1000])
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(bag)])
    assert end.value.code == 2


def test_a_bag_without_messages_is_not_healthy(tmp_path):
    report = examine_bag(made.write_rosbag2(tmp_path / "drive", []))
    assert report.problems == [f"{tmp_path / 'drive'} holds no message; record it anew"]


def test_a_time_of_recording_that_no_clock_has_ends_nothing(tmp_path):
    from mcap.writer import Writer

    path = tmp_path / "drive.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "test")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data\n")
        channel = writer.register_channel("/chat", "cdr", schema)
        for time_ns in (5, 2**64 - 1):
            writer.add_message(channel, time_ns, b"\0\1\0\0\3\0\0\0hi\0", time_ns)
        writer.finish()
    [topic] = examine_bag(path).topics
    assert (topic.messages, topic.longest_gap_s) == (2, (2**63 - 6) / 1e9)
