"""Over a Zenoh network of this machine alone: messages come in order, drops are counted, who comes late is told."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Predictor

pytest.importorskip("zenoh", reason="eclipse-zenoh is not installed")
pytest.importorskip("xxhash", reason="xxhash is not installed")
pytest.importorskip("rosbags", reason="rosbags is not installed")

from zenoh import ext

from kerbseg.robots.messages import (
    DIAGNOSTICS,
    IMAGE,
    LABEL_INFO,
    deserialize,
    header,
    serialize,
    stamp_ns_of,
    type_hash,
    typestore,
)
from kerbseg.robots.node import NodeOptions, SegmentationNode
from kerbseg.robots.rmw import number_of, topic_key
from kerbseg.robots.zenoh_link import ZenohOptions, zenoh_link

TOPIC, MASK, LABEL_TOPIC = "/cam/image_raw", "/kerbseg/mask", "/kerbseg/label_info"
PATIENCE_S = 30


@pytest.fixture
def address():
    """One of this machine that is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp/127.0.0.1:{taken.getsockname()[1]}"


def at(address):
    return ZenohOptions(connect=(), listen=(address,))


def near(address, **more):
    return ZenohOptions(connect=(address,), listen=("tcp/127.0.0.1:0",), node="camera", **more)


def picture(i):
    return np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)


def image(i):
    head = header(i * 1_000_000_000, "cam")
    return serialize(typestore().types[IMAGE](head, 24, 32, "rgb8", 0, 96, picture(i).reshape(-1)))


def wait_for(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


class Camera:
    """Sends pictures and keeps the masks that come."""

    def __init__(self, link):
        self.link, self.masks, self.beside, self.labels = link, [], [], []
        link.subscribe(MASK, IMAGE, self._take)
        self.send = link.publisher(TOPIC, IMAGE)

    def _take(self, read, beside):
        self.masks.append(deserialize(read(), IMAGE))
        self.beside.append(number_of(beside))


def looped(address, pictures, rate_hz, predictor):
    """Pictures sent at a rate to a node over Zenoh: the node's reports before and after, and what came back."""
    with zenoh_link(at(address)) as ours, zenoh_link(near(address)) as theirs:
        node = SegmentationNode(predictor, ours, NodeOptions(TOPIC, seconds=2 * PATIENCE_S + pictures / rate_hz))
        camera, stop, reports = Camera(theirs), threading.Event(), []
        working = threading.Thread(target=lambda: reports.append(node.run(stop.is_set)))
        working.start()
        while not camera.masks:  # a network takes a moment until both sides know each other
            camera.send(image(0))
            time.sleep(0.02)
        camera.send(image(1))  # messages come in order, so that none from before comes after this one
        wait_for(lambda: stamp_ns_of(camera.masks[-1]) == 10**9)
        before, known = node.report(), len(camera.masks)
        begun = time.monotonic()
        for i in range(pictures):
            time.sleep(max(0, begun + i / rate_hz - time.monotonic()))
            camera.send(image(2 + i))
        wait_for(lambda: stamp_ns_of(camera.masks[-1]) == (1 + pictures) * 10**9)
        stop.set()
        working.join(PATIENCE_S)
        masks = camera.masks[known:]
    return before, reports[0], masks, [number for number, _ in camera.beside]


def check_loop(before, after, masks, numbers, pictures, predictor):
    indexes = [stamp_ns_of(mask) // 10**9 for mask in masks]
    assert indexes == sorted(set(indexes)), "out of order, or twice"
    assert indexes[-1] == 1 + pictures, "the newest is never dropped"
    assert len(indexes) == after.segmented - before.segmented
    assert after.received - before.received == pictures
    assert pictures == len(indexes) + after.dropped - before.dropped
    assert (after.bad, after.lost) == (0, 0)
    for index, mask in zip(indexes, masks, strict=True):
        assert mask.header.frame_id == "cam"
        assert (mask.data.reshape(24, 32) == predictor(picture(index)).ids).all()
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_what_comes_back_is_in_order_and_what_does_not_is_counted(address):
    predictor = Predictor("mininet_v2_cpu-camvid", input_size=(24, 32), threads=1)
    check_loop(*looped(address, 20, 100, predictor), 20, predictor)


@pytest.mark.slow
def test_200_pictures_at_20_hz(address):
    predictor = Predictor("mininet_v2_cpu-camvid", threads=1)
    check_loop(*looped(address, 200, 20, predictor), 200, predictor)


def test_who_comes_late_is_told_the_classes_and_sees_the_topics(address):
    predictor = Predictor("mininet_v2_cpu-camvid", input_size=(24, 32), threads=1)
    with zenoh_link(at(address)) as ours:
        node = SegmentationNode(predictor, ours, NodeOptions(TOPIC))
        with zenoh_link(near(address)) as theirs:
            infos = []
            key = topic_key(0, LABEL_TOPIC, LABEL_INFO, type_hash(LABEL_INFO))
            late = ext.declare_advanced_subscriber(  # as rmw_zenoh does for transient local
                theirs._session,
                key,
                lambda sample: infos.append(deserialize(sample.payload.to_bytes(), LABEL_INFO)),
                history=ext.HistoryConfig(detect_late_publishers=True, max_samples=1),
                recovery=ext.RecoveryConfig(periodic_queries=None, heartbeat=True),
                subscriber_detection=True,
            )
            wait_for(lambda: infos)
            late.undeclare()
            assert [each.class_name for each in infos[0].class_map] == list(predictor.labels.classes)

            def seen():
                replies = theirs._session.liveliness().get("@ros2_lv/0/**")
                return {str(reply.ok.key_expr) for reply in replies if reply.ok is not None}

            wait_for(lambda: len(seen()) >= 6)
            tokens = {token.partition(str(ours._session.zid()))[2] for token in seen() if "/kerbseg" in token}
            assert tokens >= {
                "/0/0/NN/%/%/kerbseg",
                f"/0/1/MP/%/%/kerbseg/%kerbseg%mask/sensor_msgs::msg::dds_::Image_/{type_hash(IMAGE)}/::,10:,:,:,,",
                f"/0/2/MP/%/%/kerbseg/%diagnostics/diagnostic_msgs::msg::dds_::DiagnosticArray_/"
                f"{type_hash(DIAGNOSTICS)}/::,10:,:,:,,",
                f"/0/3/MP/%/%/kerbseg/%kerbseg%label_info/vision_msgs::msg::dds_::LabelInfo_/"
                f"{type_hash(LABEL_INFO)}/:1:,1:,:,:,,",
                f"/0/4/MS/%/%/kerbseg/%cam%image_raw/sensor_msgs::msg::dds_::Image_/{type_hash(IMAGE)}/2::,1:,:,:,,",
            }
        assert node.report().received == 0


def test_a_robot_of_ros_2_humble_has_no_hashes(address):
    with zenoh_link(at(address)) as ours, zenoh_link(near(address, hashes=False)) as theirs:
        came = []
        ours.subscribe(TOPIC, IMAGE, lambda read, beside: came.append(read()))
        send = theirs.publisher(TOPIC, IMAGE)
        end = time.monotonic() + PATIENCE_S
        while not came and time.monotonic() < end:
            send(image(1))
            time.sleep(0.02)
        assert came[0] == image(1)


def test_an_address_that_is_taken_is_refused_in_one_line(address):
    with zenoh_link(at(address)), pytest.raises(KerbsegError, match="in use") as refused, zenoh_link(at(address)):
        pytest.fail("it was opened")
    assert ".rs:" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_with_a_line_when_it_is_told_to(address, signum, tmp_path):
    command = [sys.executable, "-m", "kerbseg", "node", "mininet_v2_cpu-camvid", "--image", TOPIC, "--listen", address]
    command += ["--size", "24x32", "--threads", "1", "--json", str(tmp_path / "node.json")]
    environment = {**os.environ, "ROS_DOMAIN_ID": "7"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as node:
        try:
            assert "on domain 7: /cam/image_raw -> /kerbseg/mask" in node.stdout.readline()
            with zenoh_link(near(address, domain=7)) as theirs:
                camera = Camera(theirs)
                wait_for(lambda: theirs.others)
                while not camera.masks:
                    camera.send(image(1))
                    time.sleep(0.05)
            node.send_signal(signum)
            out, err = node.communicate(timeout=PATIENCE_S)
        finally:
            node.kill()
    assert (node.returncode, err) == (0, "")
    assert " segmented, " in out
    assert json.loads((tmp_path / "node.json").read_text())["segmented"] >= 1
