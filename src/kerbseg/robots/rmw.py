"""The names that ROS 2 has on a Zenoh network: where a topic's messages go, and how its nodes are seen.

As rmw_zenoh's design document describes them (github.com/ros2/rmw_zenoh, docs/design.md), so that a node of ours and
the nodes of a robot whose middleware is rmw_zenoh see and hear each other. A message is CDR, and beside it stands who
sent it, when, and as which one.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.robots.messages import type_hash

TOPIC = re.compile(r"/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)
NODE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
NO_HASH = "TypeHashNotSupported"  # where ROS 2 Humble has the hash of a type, which it does not know
ATTACHMENT = struct.Struct("<qqB16s")  # number, time in ns, bytes of what follows, who sent it
MOST_DOMAIN = 232  # of ROS 2's domains

Kind = Literal["NN", "MP", "MS"]
NODE: Kind = "NN"
PUBLISHER: Kind = "MP"
SUBSCRIPTION: Kind = "MS"


def checked_topic(name: str, what: str = "topic") -> str:
    """The whole name of a topic, with a slash before it.

    Raises KerbsegError, which calls it `what`, for what ROS does not take as one.
    """
    if not TOPIC.fullmatch(name) or "__" in name:
        raise KerbsegError(f"{what} {name!r} is no name of ROS; write it as /cam/image_raw: letters, digits, _ and /")
    return "/" + name.removeprefix("/")


def checked_node(name: str) -> str:
    """The name of a node. Raises KerbsegError for what ROS does not take as one."""
    if not NODE_NAME.fullmatch(name):
        raise KerbsegError(f"node {name!r} is no name of ROS; take letters, digits and _, such as kerbseg")
    return name


def checked_domain(domain: int) -> int:
    """The number. Raises KerbsegError for one that ROS 2 does not have."""
    if not 0 <= domain <= MOST_DOMAIN:
        raise KerbsegError(f"domain {domain} is none of ROS 2's, which are 0 to {MOST_DOMAIN}")
    return domain


@dataclass(frozen=True)
class Qos:
    """What others are told of a publisher or a subscription: reliable, and the last `depth` messages."""

    depth: int = 10
    latched: bool = False  # kept for who comes late (transient local)
    best_effort: bool = False

    def __str__(self) -> str:
        """Reliability, durability, history, deadline, lifespan, liveliness; nothing stands for rmw_zenoh's default."""
        return f"{2 if self.best_effort else ''}:{1 if self.latched else ''}:,{self.depth}:,:,:,,"


def dds_type(name: str) -> str:
    """A type as it is called on the network: `sensor_msgs::msg::dds_::Image_` for `sensor_msgs/msg/Image`."""
    package, kind, message = name.split("/")
    return f"{package}::{kind}::dds_::{message}_"


def topic_key(domain: int, topic: str, type_name: str, type_hash: str) -> str:
    """Where a topic's messages go: `<domain>/<topic>/<type>/<hash>`."""
    return f"{domain}/{topic.strip('/')}/{dds_type(type_name)}/{type_hash}"


def hash_of(type_name: str, hashes: bool) -> str:
    """The hash of a type, or what stands for it on a robot that has none."""
    return type_hash(type_name) if hashes else NO_HASH


@dataclass(frozen=True)
class Entity:
    """A node, a publisher or a subscription, as others see it."""

    domain: int
    session: str  # the Zenoh session's id
    number: int  # 0: the node itself
    kind: Kind
    node: str
    topic: str = ""
    type_name: str = ""
    type_hash: str = ""
    qos: Qos = Qos()

    @property
    def token(self) -> str:
        """The key of its liveliness token; slashes inside a name are % there, as is an empty namespace."""
        head = f"@ros2_lv/{self.domain}/{self.session}/0/{self.number}/{self.kind}/%/%/{self.node}"
        if self.kind == NODE:
            return head
        return f"{head}/{self.topic.replace('/', '%')}/{dds_type(self.type_name)}/{self.type_hash}/{self.qos}"

    @property
    def gid(self) -> bytes:
        """Its global id, 16 bytes: the hash (XXH3, 128 bits) of its token, the lower half first."""
        try:
            from xxhash import xxh3_128_intdigest
        except ImportError as error:
            raise MissingExtra("xxhash", "zenoh") from error
        return int(xxh3_128_intdigest(self.token.encode())).to_bytes(16, "little")


def attachment(number: int, time_ns: int, gid: bytes) -> bytes:
    """What goes with a message: its number (from 1 on), when it was sent (Unix time), and who sent it."""
    return ATTACHMENT.pack(number, time_ns, len(gid), gid)


def number_of(data: bytes) -> tuple[int, bytes] | None:
    """The number of a message and who sent it, of what came with it; None for what is none of rmw_zenoh's."""
    if len(data) != ATTACHMENT.size:
        return None
    number, _, size, gid = ATTACHMENT.unpack(data)
    return (number, gid) if size == len(gid) else None
