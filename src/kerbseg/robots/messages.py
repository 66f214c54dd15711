"""The messages of ROS that kerbseg reads and writes, through rosbags' types: no ROS is needed.

Pictures are `sensor_msgs/Image` and `sensor_msgs/CompressedImage`. What is predicted is what Nav2's semantic
segmentation layer reads: the class ids and their confidence (0..255) as `sensor_msgs/Image` of mono8, and the names of
the ids as `vision_msgs/LabelInfo`, which is published once and kept for who comes late (transient local).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.core.labels import LabelSet

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
PICTURES = (IMAGE, COMPRESSED_IMAGE)
"""Types of messages that hold a picture."""

SECOND = 1_000_000_000  # nanoseconds
LATEST = 2**31  # seconds; a header of ROS 2 ends there, one of ROS 1 later

DEFINITIONS: Mapping[str, str] = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    LABEL_INFO: "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}
"""Types that are no part of ROS 2 itself, in the words of its message files."""


@dataclass(frozen=True)
class Topics:
    """Where what is predicted of a camera is published, beside the camera's own topic."""

    mask: str
    confidence: str
    labels: str
    overlay: str


def topics_under(prefix: str) -> Topics:
    """The topics under a prefix such as `/cam/segmentation`, as Nav2's semantic segmentation layer names them."""
    prefix = "/" + prefix.strip("/")
    return Topics(f"{prefix}/mask", f"{prefix}/confidence", f"{prefix}/label_info", f"{prefix}/overlay/compressed")


@cache
def typestore(ros: int = 2) -> Any:
    """The types of ROS 2 or 1, with those of `DEFINITIONS`. Raises MissingExtra where rosbags is not installed."""
    try:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore
    except ImportError as error:
        raise MissingExtra("rosbags", "bags") from error
    store = get_typestore(Stores.ROS1_NOETIC if ros == 1 else Stores.ROS2_JAZZY)
    for name, text in DEFINITIONS.items():
        store.register(get_types_from_msg(text, name))
    return store


def definition(name: str) -> str:
    """The text of a type with those that it is made of, as recordings keep it."""
    text: str = typestore().generate_msgdef(name, ros_version=2)[0]
    return text


def type_hash(name: str) -> str:
    """What ROS 2 knows a type by: `RIHS01_` and 64 digits."""
    text: str = typestore().hash_rihs01(name)
    return text


def serialize(message: Any) -> bytes:
    """A message as it is sent and recorded (CDR)."""
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def deserialize(data: bytes | memoryview, name: str, ros: int = 2, shown: str = "a message") -> Any:
    """The message of a type, from ROS 2's bytes (CDR) or ROS 1's.

    Raises DataError, which calls it `shown`, for bytes that hold none.
    """
    from rosbags.serde import SerdeError

    store = typestore(ros)
    try:
        return store.deserialize_ros1(data, name) if ros == 1 else store.deserialize_cdr(data, name)
    except (SerdeError, IndexError, AssertionError) as error:  # of bytes that end too early, or say wrong lengths
        raise DataError(f"{shown} cannot be read as {name}; it is cut off, or of another type") from error


def stamp_ns_of(message: Any) -> int:
    """The time in a message's header, in nanoseconds. Raises DataError for one that a header of ROS 2 cannot hold."""
    sec, nanosec = int(message.header.stamp.sec), int(message.header.stamp.nanosec)
    if not (-LATEST <= sec < LATEST and nanosec < SECOND):
        raise DataError(f"a header has the time {sec} s and {nanosec} ns, which is none; the message is damaged")
    return sec * SECOND + nanosec


def header(stamp_ns: int, frame_id: str) -> Any:
    """A header with that time and coordinate frame."""
    types = typestore().types
    sec, nanosec = divmod(stamp_ns, SECOND)
    return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](sec, nanosec), frame_id)


def gray_image(pixels: UInt8[np.ndarray, "h w"], stamp_ns: int, frame_id: str) -> Any:
    """`sensor_msgs/Image` of mono8: a mask's class ids, or confidence from 0 to 255."""
    height, width = pixels.shape
    data = np.ascontiguousarray(pixels).reshape(-1)
    return typestore().types[IMAGE](header(stamp_ns, frame_id), height, width, "mono8", 0, width, data)


def compressed_image(jpeg: bytes, stamp_ns: int, frame_id: str) -> Any:
    """`sensor_msgs/CompressedImage` of a JPEG file's bytes."""
    return typestore().types[COMPRESSED_IMAGE](header(stamp_ns, frame_id), "jpeg", np.frombuffer(jpeg, np.uint8))


def label_info(labels: LabelSet, stamp_ns: int, frame_id: str, threshold: float = 0.0) -> Any:
    """`vision_msgs/LabelInfo`: the name of each id in a mask; `threshold` is the least confidence of a class."""
    types = typestore().types
    named = [types["vision_msgs/msg/VisionClass"](number, name) for number, name in enumerate(labels.classes)]
    return types[LABEL_INFO](header(stamp_ns, frame_id), named, threshold)


def confidence_gray(confidence: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    """Confidence from 0 to 1 as 0 to 255, rounded; bytes stay as they are."""
    if confidence.dtype == np.uint8:
        return confidence
    return np.round(confidence * 255).astype(np.uint8)


def latched_qos() -> Any:
    """The quality of service of what is published once and kept for who comes late: reliable, transient local."""
    return _qos(durable=True)


def sensor_qos() -> Any:
    """The quality of service of pictures: reliable, which subscribers of either kind take, and not kept."""
    return _qos(durable=False)


def _qos(durable: bool) -> Any:
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    forever = QosTime(9223372036, 854775807)  # as ROS 2 writes that there is no limit
    return Qos(
        QosHistory.KEEP_LAST,
        1 if durable else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if durable else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        avoid_ros_namespace_conventions=False,
    )
