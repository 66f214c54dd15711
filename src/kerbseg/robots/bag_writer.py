"""Writing a bag: what another one holds, copied, and messages of our own; whole or not at all."""

from __future__ import annotations

import os
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kerbseg.core.errors import DataError, KerbsegError, KerbsegWarning, MissingExtra
from kerbseg.core.files import atomic_write, folder_beside
from kerbseg.core.text import counted
from kerbseg.robots.bags import Bag, Channel, Message
from kerbseg.robots.messages import LABEL_INFO, definition, latched_qos, sensor_qos, serialize, type_hash

UNKNOWN_HASH = "RIHS01_" + 64 * "0"
"""Of a type whose text the source lacks: bags of before ROS 2 Iron keep none."""

SUFFIX = ".mcap"


class BagWriter:
    """Writes MCAP in rosbag2's layout, message by message; chunks are compressed (zstd)."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._copied: dict[Channel, tuple[Any, Callable[[bytes], Any]]] = {}
        self._made: dict[str, Any] = {}
        self._left_out = Counter[str]()

    def add_channels(self, bag: Bag) -> None:
        """Makes room for all topics of a bag, which are then copied; those of ROS 1 become ROS 2's.

        Topics of ROS 1 whose type cannot be read are left out, with a KerbsegWarning.
        """
        for channel in bag.channels:
            if bag.ros == 1:
                self._add_ros1(channel)
            else:
                self._copied[channel] = (self._add(channel), bytes)

    def copy(self, message: Message) -> None:
        """Writes a message as it is; one of ROS 1 that does not fit its type is left out and counted."""
        if message.channel not in self._copied:
            return
        connection, convert = self._copied[message.channel]
        try:
            data = convert(message.data)
        except DataError:
            self._left_out[message.channel.topic] += 1
            return
        self._writer.write(connection, message.log_ns, data)

    def tell_what_was_left_out(self) -> None:
        """A KerbsegWarning for each topic of which messages could not be converted."""
        for topic, count in self._left_out.items():
            told = f"{counted(count, 'message')} of {topic} cannot be read as their type, and are not copied"
            warnings.warn(KerbsegWarning(told), stacklevel=2)

    def write(self, topic: str, message: Any, log_ns: int) -> None:
        """Writes a message of our own; LabelInfo is latched. Raises KerbsegError for a topic that the source has."""
        connection = self._made.get(topic)
        if connection is None:
            name = message.__msgtype__
            if any(each.topic == topic for each in self._copied):
                raise KerbsegError(f"topic {topic} is in the bag already; choose another name with --prefix")
            qos = latched_qos() if name == LABEL_INFO else sensor_qos()
            connection = self._made[topic] = self._writer.add_connection(
                topic, name, msgdef=definition(name), rihs01=type_hash(name), offered_qos_profiles=[qos]
            )
        self._writer.write(connection, log_ns, serialize(message))

    def _add(self, channel: Channel) -> Any:
        source = channel.connection
        text = source.msgdef.data
        return self._writer.add_connection(
            source.topic,
            source.msgtype,
            msgdef=text,
            rihs01=source.digest or _hash_of(source.msgtype, text),
            serialization_format=source.ext.serialization_format,
            offered_qos_profiles=source.ext.offered_qos_profiles,
        )

    def _add_ros1(self, channel: Channel) -> None:
        from rosbags.convert.converter import create_connections_converters
        from rosbags.serde import SerdeError
        from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

        source, store = channel.connection, get_typestore(Stores.EMPTY)
        try:
            store.register(get_types_from_msg(source.msgdef.data, source.msgtype))
            connections, converters = create_connections_converters(
                [source], None, SimpleNamespace(typestore=store, is2=False), self._writer
            )
        except TypesysError as error:
            message = f"{channel.topic} is left out: its type {channel.type} cannot be read ({error})"
            warnings.warn(KerbsegWarning(message), stacklevel=2)
            return
        convert = converters[source.msgtype]

        def converted(data: bytes) -> Any:
            try:
                return convert(data)
            except (SerdeError, IndexError, AssertionError, ValueError, struct.error) as error:
                raise DataError(f"a message of {channel.topic} cannot be read ({error})") from error

        self._copied[channel] = (connections[source.id, source.owner], converted)


@contextmanager
def write_bag(target: Path) -> Iterator[BagWriter]:
    """What writes an .mcap file, or for another name a rosbag2 folder; it is there when the block ends well.

    Raises KerbsegError where it cannot be written, and for a folder that holds something; MissingExtra without rosbags.
    """
    try:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    except ImportError as error:
        raise MissingExtra("rosbags", "bags") from error
    single = target.suffix.lower() == SUFFIX
    if not single:
        check_new_folder(target)
    with folder_beside(target) as temporary:
        folder = temporary / target.name
        with _all_or_nothing(target):
            # version 8 is read by ROS 2 Humble too, which takes no names for qualities of service
            writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            with writer:
                bag = BagWriter(writer)
                yield bag
            bag.tell_what_was_left_out()
        if single:
            with atomic_write(target) as path:
                os.replace(folder / f"{folder.name}.mcap", path)
        else:
            with _all_or_nothing(target):
                if target.exists():
                    target.rmdir()  # it is empty
                folder.rename(target)


def check_new_folder(target: Path) -> None:
    """Raises KerbsegError for a file, and for a folder that holds something: a bag is a folder of its own."""
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise KerbsegError(f"{target} exists already, and a bag is a folder of its own; choose another name: -o NAME")


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise KerbsegError(f"cannot write {target}: {reason}; free space or choose another place") from error


def _hash_of(name: str, text: str) -> str:
    from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

    store = get_typestore(Stores.EMPTY)
    try:
        if text.startswith("=" * 80):
            for part in text.split("=" * 80 + "\n")[1:]:
                store.register(get_types_from_idl(part.split("\n", 1)[1]))
        else:
            store.register(get_types_from_msg(text, name))
        made: str = store.hash_rihs01(name)
    except (TypesysError, LookupError, ValueError):
        return UNKNOWN_HASH
    return made
