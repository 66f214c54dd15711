"""Segments a camera's pictures: the node of `kerbseg node`, with rclpy instead of Zenoh. Not run on ROS here.

Messages go in and out as ROS has serialized them (CDR): rclpy hands on their bytes, which kerbseg reads and writes.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from signal import SIGINT, SIGTERM
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosidl_runtime_py.utilities import get_message

from kerbseg import Predictor
from kerbseg.cli.options import parse_size
from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Roi, RoiSegmenter, Style
from kerbseg.predict.interrupts import ending_once
from kerbseg.robots.node import NodeOptions, SegmentationNode

PARAMETERS: dict[str, Any] = {
    "model": "mininet_v2_cpu-camvid",
    "image": "/image_raw",
    "out": "/kerbseg",
    "confidence": False,
    "overlay": False,
    "alpha": 0.5,
    "size": "",  # HEIGHTxWIDTH; the size that the network was trained on without it
    "roi": "",  # X,Y,W,H; the whole picture without it
    "runtime": "",  # by the model's file without it
    "threads": 0,  # all
}
"""Names and defaults, as the options of `kerbseg node`."""


class RclpyLink:
    """Topics of a node of rclpy, as kerbseg's node uses them."""

    def __init__(self, node: Any) -> None:
        self._node = node

    def subscribe(self, topic: str, type_name: str, receive: Callable[[Callable[[], bytes], bytes], None]) -> None:
        """Calls `receive` with each message of a topic, as bytes; of a camera only the newest matters."""
        newest = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)

        def take(data: bytes) -> None:
            receive(lambda: data, b"")

        self._node.create_subscription(get_message(type_name), topic, take, newest, raw=True)

    def publisher(self, topic: str, type_name: str, latched: bool = False) -> Callable[[bytes], None]:
        """What publishes messages as bytes; of a `latched` topic the last one is kept for who comes late."""
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        quality = QoSProfile(
            depth=1 if latched else 10,
            history=HistoryPolicy.KEEP_LAST,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=durability,
        )
        publish: Callable[[bytes], None] = self._node.create_publisher(get_message(type_name), topic, quality).publish
        return publish


def main(args: list[str] | None = None) -> None:
    """Runs the node until Ctrl-C or until ROS shuts down; leaves with status 2 for a parameter that cannot be."""
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)  # the picture in hand is finished first
    node = rclpy.create_node("kerbseg")
    try:
        with ending_once(SIGINT, SIGTERM):
            report = _run(node)
        node.get_logger().info(str(report))
    except KerbsegError as error:
        node.get_logger().fatal(str(error))
        sys.exit(2)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _run(node: Any) -> Any:
    given = {name: node.declare_parameter(name, default).value for name, default in PARAMETERS.items()}
    options = NodeOptions(
        given["image"], given["out"], given["confidence"], given["overlay"], Style(alpha=given["alpha"])
    )
    segmenter: Any = Predictor(
        given["model"],
        input_size=parse_size(given["size"] or None) or "trained",
        engine=given["runtime"] or None,
        threads=given["threads"] or None,
    )
    if given["roi"]:
        segmenter = RoiSegmenter(segmenter, Roi.parse(given["roi"]))
    working = SegmentationNode(segmenter, RclpyLink(node), options, node.get_logger().warning)
    threading.Thread(target=_spin, args=(node,), daemon=True).start()
    return working.run(over=lambda: not rclpy.ok())


def _spin(node: Any) -> None:
    with suppress(ExternalShutdownException):  # `run` sees it, too
        rclpy.spin(node)
