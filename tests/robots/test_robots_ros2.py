"""The node for ROS 2, against a stand-in of the part of rclpy that it uses; it was not run on ROS."""

import importlib.util
import re
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from kerbseg.cli import app
from kerbseg.predict import Predictor

pytest.importorskip("rosbags", reason="rosbags is not installed")

from kerbseg.robots.messages import IMAGE, LABEL_INFO, deserialize, header, serialize, stamp_ns_of, typestore

HERE = Path(__file__).parents[2] / "integrations" / "ros2"


class StandIn:
    """rclpy, as its documentation describes what the node calls; nothing of it was written by ROS."""

    def __init__(self, parameters):
        self.parameters, self.running, self.spinning = parameters, False, threading.Event()
        self.publishers, self.subscriptions, self.logged = {}, {}, []
        self.destroyed = False

    def modules(self):
        rclpy, qos, signals, executors = (ModuleType(name) for name in ("rclpy", "qos", "signals", "executors"))
        utilities = ModuleType("utilities")
        rclpy.init, rclpy.create_node, rclpy.spin = self.init, self.create_node, self.spin
        rclpy.ok, rclpy.try_shutdown = lambda: self.running, self.stop
        qos.QoSProfile = lambda *, depth, history, reliability, durability="VOLATILE": SimpleNamespace(
            depth=depth, reliability=reliability, durability=durability
        )
        qos.DurabilityPolicy = SimpleNamespace(TRANSIENT_LOCAL="TRANSIENT_LOCAL", VOLATILE="VOLATILE")
        qos.ReliabilityPolicy = SimpleNamespace(RELIABLE="RELIABLE", BEST_EFFORT="BEST_EFFORT")
        qos.HistoryPolicy = SimpleNamespace(KEEP_LAST="KEEP_LAST")
        signals.SignalHandlerOptions = SimpleNamespace(NO="NO")
        executors.ExternalShutdownException = type("ExternalShutdownException", (Exception,), {})
        utilities.get_message = lambda name: name
        return {
            "rclpy": rclpy,
            "rclpy.qos": qos,
            "rclpy.signals": signals,
            "rclpy.executors": executors,
            "rosidl_runtime_py": ModuleType("rosidl_runtime_py"),
            "rosidl_runtime_py.utilities": utilities,
        }

    def init(self, *, args, signal_handler_options):
        assert signal_handler_options == "NO"
        self.running = True

    def stop(self):
        self.running = False

    def create_node(self, name):
        assert name == "kerbseg"
        return self

    def spin(self, node):
        self.spinning.set()

    def destroy_node(self):
        self.destroyed = True

    def declare_parameter(self, name, default):
        return SimpleNamespace(value=self.parameters.get(name, default))

    def get_logger(self):
        def log(level):
            return lambda text: self.logged.append((level, text))

        return SimpleNamespace(info=log("info"), warning=log("warning"), fatal=log("fatal"))

    def create_subscription(self, kind, topic, callback, quality, *, raw):
        assert raw
        self.subscriptions[topic] = (kind, callback, quality)

    def create_publisher(self, kind, topic, quality):
        sent = []

        def publish(message):
            assert type(message) is bytes
            assert self.running
            sent.append(message)

        self.publishers[topic] = (kind, sent, quality)
        return SimpleNamespace(publish=publish)


def load(monkeypatch, stand_in):
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("kerbseg_ros_node", HERE / "kerbseg_ros" / "node.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pixels():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def test_a_picture_goes_in_and_its_ids_come_out(monkeypatch):
    ros = StandIn({"image": "/cam/image_raw", "size": "24x32", "confidence": True, "threads": 1})
    module = load(monkeypatch, ros)
    working = threading.Thread(target=module.main)  # signals are left alone outside the main thread
    working.start()
    assert ros.spinning.wait(60)
    kind, receive, quality = ros.subscriptions["/cam/image_raw"]
    assert (kind, quality.depth, quality.reliability) == (IMAGE, 1, "BEST_EFFORT")
    image = typestore().types[IMAGE](header(5, "cam"), 24, 32, "rgb8", 0, 96, pixels().reshape(-1))
    receive(serialize(image))
    end = time.monotonic() + 60
    while not ros.publishers["/kerbseg/confidence"][1]:
        assert time.monotonic() < end
        time.sleep(0.01)
    ros.spinning.clear()
    over, ros.running_before = time.monotonic() + 60, ros.running
    monkeypatch.setattr(sys.modules["rclpy"], "ok", lambda: False)  # as when ROS shuts down
    working.join(60)
    assert time.monotonic() < over
    assert not working.is_alive()
    kind, [sent], quality = ros.publishers["/kerbseg/mask"]
    mask = deserialize(sent, IMAGE)
    assert (stamp_ns_of(mask), mask.header.frame_id) == (5, "cam")
    ids = Predictor("mininet_v2_cpu-camvid", input_size=(24, 32), threads=1)(pixels()).ids
    assert (mask.data.reshape(24, 32) == ids).all()
    kind, [_], quality = ros.publishers["/kerbseg/label_info"]
    assert (kind, quality.durability, quality.depth) == (LABEL_INFO, "TRANSIENT_LOCAL", 1)
    assert ros.publishers["/diagnostics"][1]
    assert "/kerbseg/overlay/compressed" not in ros.publishers
    [(level, text)] = ros.logged
    assert level == "info"
    assert "1 segmented" in text
    assert ros.destroyed
    assert not ros.running


def test_a_parameter_that_cannot_be_is_said_and_ends_it(monkeypatch):
    ros = StandIn({"roi": "1,2", "model": "mininet_v2_cpu-camvid", "threads": 1})
    with pytest.raises(SystemExit) as left:
        load(monkeypatch, ros).main()
    assert left.value.code == 2
    [(level, text)] = ros.logged
    assert level == "fatal"
    assert "X,Y,W,H" in text
    assert ros.destroyed


def test_its_parameters_are_options_of_the_command_and_stand_in_the_readme(monkeypatch, capsys):
    module = load(monkeypatch, StandIn({}))
    options = {name for argument in app["node"].assemble_argument_collection() for name in argument.names}
    readme = (HERE / "README.md").read_text()
    for name in module.PARAMETERS:
        assert name == "model" or f"--{name}" in options
        assert f"`{name}`" in readme
    assert "Not run on ROS here" in readme


def test_the_package_names_what_it_needs_and_its_files():
    package, setup = (HERE / "package.xml").read_text(), (HERE / "setup.py").read_text()
    for name in re.findall(r"resource/\S+?(?=\")|package\.xml|launch/\S+?(?=\")", setup):
        assert (HERE / name.replace("{NAME}", "kerbseg_ros")).exists(), name
    code = (HERE / "kerbseg_ros" / "node.py").read_text()
    for name in ("rclpy", "rosidl_runtime_py"):
        assert f"<exec_depend>{name}</exec_depend>" in package
        assert name in code
