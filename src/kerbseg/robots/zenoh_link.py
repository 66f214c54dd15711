"""Topics of ROS 2 over Zenoh, as rmw_zenoh has them, without ROS."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.robots.rmw import NODE, PUBLISHER, SUBSCRIPTION, Entity, Kind, Qos, attachment, hash_of, topic_key

ROUTER = "tcp/localhost:7447"
"""Where rmw_zenoh's router (`ros2 run rmw_zenoh_cpp rmw_zenohd`) listens unless it is told otherwise."""

ANY_PORT = "tcp/localhost:0"
HEARTBEAT_S = 0.5  # as rmw_zenoh's: who missed the last latched message is told of it so soon
PLACE = re.compile(r"\s+at \S+\.rs:\d+\.?")  # of an error in Zenoh's source

Receive = Callable[[Callable[[], bytes], bytes], None]
"""Takes what reads a message's bytes, and what came with it; called from another thread."""

Publish = Callable[[bytes], None]


@dataclass(frozen=True)
class ZenohOptions:
    """How to come to a Zenoh network: addresses such as tcp/192.168.1.5:7447; multicast finds others by itself."""

    connect: tuple[str, ...] = (ROUTER,)
    listen: tuple[str, ...] = (ANY_PORT,)
    domain: int = 0
    multicast: bool = False
    hashes: bool = True  # False: as ROS 2 Humble, which knows no hashes of types
    node: str = "kerbseg"


def _module() -> Any:
    try:
        import zenoh
    except ImportError as error:
        raise MissingExtra("eclipse-zenoh", "zenoh") from error
    return zenoh


@contextmanager
def zenoh_link(options: ZenohOptions) -> Iterator[ZenohLink]:
    """A session on a Zenoh network, in which others see a node.

    An address that nobody answers at is tried again as long as the session is open. Raises MissingExtra without
    eclipse-zenoh, KerbsegError for an address that is none, or cannot be listened at.
    """
    zenoh = _module()
    try:
        session = zenoh.open(_config(zenoh, options))
    except zenoh.ZError as error:
        raise KerbsegError(f"zenoh cannot be opened: {_told(error)}; see --connect and --listen") from error
    try:
        yield ZenohLink(session, options)
    finally:
        session.close()


def _config(zenoh: Any, options: ZenohOptions) -> Any:
    """That of rmw_zenoh's sessions: peers that a router tells of each other."""
    config = zenoh.Config()
    for key, value in {
        "mode": "peer",
        "connect/endpoints": _endpoints(options.connect),
        "listen/endpoints": _endpoints(options.listen),
        "scouting/multicast/enabled": options.multicast,
        "timestamping/enabled": True,  # without it nothing is kept for who comes late
        "transport/shared_memory/enabled": False,
    }.items():
        config.insert_json5(key, json.dumps(value))
    return config


def _endpoints(addresses: Sequence[str]) -> list[str]:
    return [address if "/" in address else f"tcp/{address}" for address in addresses]


def _told(error: Exception) -> str:
    return PLACE.sub("", str(error)).strip().rstrip(".")


class ZenohLink:
    """Publishes and subscribes to ROS 2's topics on an open session."""

    def __init__(self, session: Any, options: ZenohOptions) -> None:
        self._session, self._options = session, options
        self._numbers = 0
        self._kept: list[Any] = []  # what is declared ends when nobody holds it any more
        self._announce(self._entity(NODE, "", "", Qos()))

    @property
    def others(self) -> int:
        """How many routers and peers this session is connected to."""
        info = self._session.info
        return len(info.routers_zid()) + len(info.peers_zid())

    def subscribe(self, topic: str, type_name: str, receive: Receive) -> None:
        """Calls `receive` with each message of a topic, whatever hash its sender knows the type by."""

        def take(sample: Any) -> None:
            payload, beside = sample.payload, sample.attachment
            receive(payload.to_bytes, b"" if beside is None else beside.to_bytes())

        key = topic_key(self._options.domain, topic, type_name, "*")
        self._kept.append(self._session.declare_subscriber(key, take))
        self._announce(self._entity(SUBSCRIPTION, topic, type_name, Qos(depth=1, best_effort=True)))

    def publisher(self, topic: str, type_name: str, latched: bool = False) -> Publish:
        """What publishes messages (CDR) of a topic; of a `latched` one the last is kept for who comes late."""
        zenoh = _module()
        from zenoh import ext

        entity = self._entity(PUBLISHER, topic, type_name, Qos(depth=1 if latched else 10, latched=latched))
        key = topic_key(self._options.domain, topic, type_name, entity.type_hash)
        kept: dict[str, Any] = {
            "cache": ext.CacheConfig(1),
            "publisher_detection": True,
            "sample_miss_detection": ext.MissDetectionConfig(heartbeat=None, sporadic_heartbeat=HEARTBEAT_S),
        }
        publisher = ext.declare_advanced_publisher(
            self._session,
            key,
            reliability=zenoh.Reliability.RELIABLE,
            congestion_control=zenoh.CongestionControl.DROP,  # a viewer that is slow holds up nobody
            **(kept if latched else {}),
        )
        self._kept.append(publisher)
        self._announce(entity)
        gid, number = entity.gid, 0

        def publish(data: bytes) -> None:
            nonlocal number
            number += 1
            publisher.put(data, attachment=attachment(number, time.time_ns(), gid))

        return publish

    def _entity(self, kind: Kind, topic: str, type_name: str, qos: Qos) -> Entity:
        number, self._numbers = self._numbers, self._numbers + 1
        hashed = hash_of(type_name, self._options.hashes) if type_name else ""
        session, options = str(self._session.zid()), self._options
        return Entity(options.domain, session, number, kind, options.node, topic, type_name, hashed, qos)

    def _announce(self, entity: Entity) -> None:
        self._kept.append(self._session.liveliness().declare_token(entity.token))
