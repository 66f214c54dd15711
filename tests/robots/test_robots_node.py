"""A node takes the newest picture, counts the others, copies headers, and outlives bad messages."""

import io
import struct
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.predict import Prediction, Predictor, Roi, RoiSegmenter

pytest.importorskip("rosbags", reason="rosbags is not installed")

from kerbseg.robots.messages import (
    COMPRESSED_IMAGE,
    IMAGE,
    LABEL_INFO,
    compressed_image,
    deserialize,
    header,
    serialize,
    stamp_ns_of,
    typestore,
)
from kerbseg.robots.node import NodeOptions, NodeReport, SegmentationNode
from kerbseg.robots.rmw import attachment

LABELS = label_set("camvid")
TOPIC = "/cam/image_raw"


class Wire:
    """A link whose messages a test sends and reads."""

    def __init__(self):
        self.sent, self.latched, self.types = defaultdict(list), set(), {}
        self.number = 0

    def subscribe(self, topic, type_name, receive):
        self.types[topic], self._receive = type_name, receive

    def publisher(self, topic, type_name, latched=False):
        self.types[topic] = type_name
        if latched:
            self.latched.add(topic)
        return self.sent[topic].append

    def send(self, data, number=None):
        self.number = self.number + 1 if number is None else number
        self._receive(lambda: data, attachment(self.number, 0, bytes(16)))

    def read(self, topic):
        return [deserialize(data, self.types[topic]) for data in self.sent[topic]]


def picture(i, size=(12, 16)):
    return np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)


def image(i, encoding="rgb8", frame_id="cam"):
    pixels = picture(i)
    height, width = pixels.shape[:2]
    head = header(i * 1_000_000_000 + 7, frame_id)
    return serialize(typestore().types[IMAGE](head, height, width, encoding, 0, 3 * width, pixels.reshape(-1)))


class Bright:
    """A segmenter that sees class 1 where it is bright; `before` is called with each picture."""

    labels = LABELS

    def __init__(self, before=lambda picture: None):
        self.before = before

    def __call__(self, rgb, /, *, channels="rgb", confidence=False):
        self.before(rgb)
        sure = np.full(rgb.shape[:2], 0.5, np.float32) if confidence else None
        return Prediction((rgb[..., 1] > 127).astype(np.uint8), LABELS, sure, rgb)


def node(segmenter, told=None, **options):
    wire = Wire()
    working = SegmentationNode(
        segmenter, wire, NodeOptions(TOPIC, **options), (told if told is not None else []).append
    )
    return wire, working


def test_results_have_the_header_and_the_ids_of_their_picture():
    wire, working = node(Bright(), frames=1, confidence=True, overlay=True)
    wire.send(image(3, frame_id="front"))
    report = working.run()
    [mask], [sure], [overlay] = (
        wire.read(f"/kerbseg/{topic}") for topic in ("mask", "confidence", "overlay/compressed")
    )
    for message in (mask, sure, overlay):
        assert (stamp_ns_of(message), message.header.frame_id) == (3_000_000_007, "front")
    assert (mask.encoding, mask.height, mask.width, mask.step) == ("mono8", 12, 16, 16)
    assert (mask.data.reshape(12, 16) == (picture(3)[..., 1] > 127)).all()
    assert set(sure.data) == {128}
    assert Image.open(io.BytesIO(overlay.data.tobytes())).size == (16, 12)
    assert (report.received, report.segmented, report.dropped, report.bad) == (1, 1, 0, 0)


def test_classes_are_named_once_and_kept():
    wire, _ = node(Bright())
    [info] = wire.read("/kerbseg/label_info")
    assert {each.class_id: each.class_name for each in info.class_map} == dict(enumerate(LABELS.classes))
    assert wire.latched == {"/kerbseg/label_info"}
    assert wire.types["/kerbseg/label_info"] == LABEL_INFO
    assert "/kerbseg/confidence" not in wire.types, "nobody asked for it"


def test_of_pictures_that_come_while_one_is_worked_on_the_newest_is_next():
    def meanwhile(rgb):
        if (rgb == picture(0)).all():
            for i in (1, 2, 3):
                wire.send(image(i))

    wire, working = node(Bright(meanwhile), frames=2)
    wire.send(image(0))
    report = working.run()
    assert [stamp_ns_of(each) // 10**9 for each in wire.read("/kerbseg/mask")] == [0, 3]
    assert (report.received, report.segmented, report.dropped) == (4, 2, 2)


def test_a_picture_that_waits_when_the_node_ends_is_dropped_and_counted():
    wire, working = node(Bright(lambda rgb: wire.send(image(5))), frames=1)
    wire.send(image(0))
    report = working.run()
    assert (report.received, report.segmented, report.dropped) == (2, 1, 1)
    assert report.to_dict()["dropped"] == 1
    assert "2 received, 1 dropped, 0 bad" in str(report)


def test_bad_messages_are_counted_and_each_kind_is_told_once():
    bad = [image(0)[:60], image(0, encoding="32FC1"), image(0)[:70], image(0, encoding="rgba8"), b""]
    told, messages = [], iter([image(1), *bad, image(2)])
    wire, working = node(Bright(), told, frames=2)

    def next_one():  # once the one before it was worked on
        wire.send(next(messages))
        return False

    report = working.run(next_one)
    assert (report.received, report.segmented, report.bad, report.dropped) == (7, 2, 5, 0)
    assert len(told) == 3, told
    assert "cut off" in told[0]
    assert "32FC1" in told[1]
    assert "damaged" in told[2]
    assert "cut off" in report.last_error
    values = {pair.key: pair.value for pair in wire.read("/diagnostics")[-1].status[0].values}
    assert (values["bad"], values["segmented"], values["last error"]) == ("5", "2", report.last_error)


@pytest.mark.parametrize("stamp", [(5, 2_000_000_000), (2**31 - 1, 2_000_000_000)])
def test_a_header_whose_time_is_none_is_a_bad_message_and_ends_nothing(stamp):
    data = image(0)
    told, messages = [], iter([data[:4] + struct.pack("<iI", *stamp) + data[12:], image(1)])
    wire, working = node(Bright(), told, frames=1)

    def next_one():
        wire.send(next(messages))
        return False

    report = working.run(next_one)
    assert (report.segmented, report.bad) == (1, 1)
    assert "which is none" in told[0]


def test_a_region_outside_the_picture_is_a_bad_message_too():
    told = []
    wire, working = node(RoiSegmenter(Bright(), Roi(0, 0, 17, 4)), told, seconds=0.3)
    wire.send(image(0))
    assert working.run().bad == 1
    assert "not inside a picture of 16x12" in told[0]


def test_messages_that_never_came_are_counted_by_their_numbers():
    wire, working = node(Bright(), seconds=0.01)
    for number in (1, 2, 5, 6):
        wire.send(image(number), number)
    assert working.run().lost == 2


def test_diagnostics_say_that_nothing_came_and_that_all_is_bad():
    wire, working = node(Bright(), seconds=0.01)
    working.run()
    [status] = wire.read("/diagnostics")[-1].status
    assert (status.level, status.message, status.name) == (1, "no picture came", "kerbseg: /cam/image_raw")
    wire, working = node(Bright(), seconds=0.01)
    wire.send(image(0, encoding="32FC1"))
    working.run()
    assert wire.read("/diagnostics")[-1].status[0].level == 2
    wire, working = node(Bright(), frames=1)
    wire.send(image(0))
    working.run()
    [status] = wire.read("/diagnostics")[-1].status
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == 0
    assert set(values) == {
        "rate (Hz)", "latency median (ms)", "latency max (ms)", "received", "segmented", "dropped", "bad", "lost",
        "last error",
    }  # fmt: skip
    assert float(values["latency median (ms)"]) == float(values["latency max (ms)"]) > 0


def test_compressed_pictures_come_by_the_name_of_their_topic():
    wire = Wire()
    working = SegmentationNode(Bright(), wire, NodeOptions("cam/image_raw/compressed", "seg", frames=1))
    assert wire.types["/cam/image_raw/compressed"] == COMPRESSED_IMAGE
    png = io.BytesIO()
    Image.fromarray(picture(4)).save(png, "PNG")
    wire.send(serialize(compressed_image(png.getvalue(), 9, "cam")))
    working.run()
    [mask] = wire.read("/seg/mask")
    assert (mask.data.reshape(12, 16) == (picture(4)[..., 1] > 127)).all()
    assert working.published == ["/seg/mask", "/seg/label_info", "/diagnostics"]


def test_ids_are_those_of_predict():
    predictor = Predictor("mininet_v2_cpu-camvid", input_size=(48, 64))
    wire, working = node(predictor, frames=1)
    wire.send(image(2))
    working.run()
    assert (wire.read("/kerbseg/mask")[0].data.reshape(12, 16) == predictor(picture(2)).ids).all()


@pytest.mark.parametrize("options", [{"frames": 0}, {"seconds": 0}, {"seconds": -1.0}, {"out": "/a b"}])
def test_what_no_node_can_be_told_is_refused(options):
    with pytest.raises(KerbsegError):
        NodeOptions(TOPIC, **options)


def test_a_report_without_pictures_says_so_much():
    report = NodeReport(0, 0, 0, 0, 0, 0.0, None, None)
    assert str(report) == "0 segmented; 0 received, 0 dropped, 0 bad"
    assert report.to_dict()["latency_ms"] == {"median": None, "max": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "/cam/image raw"], "no name of ROS"),
        (["--image", TOPIC, "--domain", "500"], "0 to 232"),
        (["--image", TOPIC, "--connect", "nonsense/1"], "zenoh cannot be opened"),
        (["--image", TOPIC, "--roi", "1,2"], "X,Y,W,H"),
        (["--image", TOPIC, "--frames", "0"], "1 frame"),
        ([], "missing --image"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, capsys):
    pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
    with pytest.raises(SystemExit) as left:
        main(["node", "mininet_v2_cpu-camvid", *arguments])
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_domain_of_the_environment_that_is_no_number_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("ROS_DOMAIN_ID", "seven")
    with pytest.raises(SystemExit) as left:
        main(["node", "mininet_v2_cpu-camvid", "--image", TOPIC])
    assert left.value.code == 2
    assert "ROS_DOMAIN_ID" in capsys.readouterr().err
