"""Recordings of robots (bags): rosbag2 folders (MCAP, sqlite3), bare MCAP and sqlite3 files, and ROS 1 bags.

rosbags reads them; no ROS is needed. A bag is read message by message, in the order of recording.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerbseg.core.errors import DataError, MissingExtra, did_you_mean
from kerbseg.robots.messages import PICTURES, deserialize

SUFFIXES = frozenset({".mcap", ".db3", ".bag"})
METADATA = "metadata.yaml"
TORN = (AssertionError, TypeError, LookupError, EOFError, MemoryError, UnicodeError, struct.error)
"""What readers raise where a part is missing or torn; their words help nobody."""

HEAD = 4096  # characters of metadata.yaml in which it says what it is


@dataclass(frozen=True, eq=False)
class Channel:
    """One topic of a bag, from one publisher."""

    topic: str
    type: str
    count: int
    ros: int  # 1 or 2
    connection: Any  # rosbags' own

    @property
    def is_picture(self) -> bool:
        """Whether its messages hold pictures."""
        return self.type in PICTURES

    def read(self, data: bytes, shown: str | None = None) -> Any:
        """A message of it. Raises DataError, which calls it `shown`, for bytes that hold none."""
        return deserialize(data, self.type, self.ros, f"a message of {self.topic}" if shown is None else shown)


@dataclass(frozen=True, eq=False)
class Message:
    """A message as it was recorded."""

    channel: Channel
    log_ns: int
    data: bytes


@dataclass(frozen=True, eq=False)
class Bag:
    """A bag that is open."""

    path: Path
    ros: int
    channels: tuple[Channel, ...]
    start_ns: int  # of recording; of a bag without messages 0, as `end_ns`
    end_ns: int  # of the last message
    cut: bool  # a file of it ends too early
    _reader: Any

    @property
    def picture_topics(self) -> tuple[str, ...]:
        """The topics that hold pictures, by name."""
        return tuple(sorted({each.topic for each in self.channels if each.is_picture}))

    def count(self, topics: Collection[str]) -> int:
        """How many pictures topics have."""
        return sum(each.count for each in self.channels if each.topic in topics and each.is_picture)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """The messages, or those of some topics, in the order of recording.

        Raises DataError where the bag is damaged, and after the last whole message of one that is cut off.
        """
        from kerbseg.robots.readers import DAMAGE

        wanted = {each.connection.id: each for each in self.channels if topics is None or each.topic in topics}
        number, last_ns = 0, 0
        try:
            if wanted:
                for connection, log_ns, data in self._reader.messages([each.connection for each in wanted.values()]):
                    yield Message(wanted[connection.id], log_ns, data)
                    number, last_ns = number + 1, log_ns
        except DAMAGE as error:
            raise DataError(f"{self.path} is damaged after {number} messages ({_reason(error)})") from error
        if self.cut and not number:
            raise DataError(f"{self.path} is cut off before its first whole message; record it anew")
        if self.cut:
            raise DataError(f"{self.path} is cut off; what is whole ends at {last_ns / 1e9:.3f} s")


@contextmanager
def open_bag(path: str | Path) -> Iterator[Bag]:
    """A bag, open for reading.

    Raises DataError for what is none or cannot be read, MissingExtra where rosbags is not installed.
    """
    try:
        from kerbseg.robots.readers import DAMAGE, Ros2Reader, open_reader
    except ImportError as error:
        raise MissingExtra("rosbags", "bags") from error

    path = _one_file(Path(path))
    try:
        reader = open_reader(path)
        reader.open()
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a bag ({_reason(error)}); {_remedy(path)}") from error
    try:
        ros = 2 if isinstance(reader, Ros2Reader) else 1
        channels = tuple(Channel(each.topic, each.msgtype, each.msgcount, ros, each) for each in reader.connections)
        filled = any(each.count for each in channels)
        start_ns, end_ns = (reader.start_time, reader.end_time - 1) if filled else (0, 0)  # theirs is behind the last
        yield Bag(path, ros, channels, start_ns, end_ns, getattr(reader, "cut", False), reader)
    finally:
        reader.close()


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: a file by its suffix, a folder by what lies in it."""
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES and path.is_file()
    metadata = path / METADATA
    if metadata.is_file():
        with metadata.open(encoding="utf-8", errors="replace") as file:
            return "rosbag2_bagfile_information" in file.read(HEAD)
    return bool(_storages(path))


def chosen_topics(bag: Bag, topics: Collection[str]) -> tuple[str, ...]:
    """The topics whose pictures are meant: those that are named, or the only one.

    Raises DataError for one that is not there or holds no pictures, and where none is named and there are several.
    """
    pictures = bag.picture_topics
    if not pictures and bag.cut:
        raise DataError(f"{bag.path} is cut off before its first whole picture; record it anew")
    if not bag.channels:
        raise DataError(f"{bag.path} holds no message; record it anew")
    if not pictures:
        types = ", ".join(sorted({each.type for each in bag.channels}))
        raise DataError(f"{bag.path} has no topic with pictures (sensor_msgs Image or CompressedImage), only {types}")
    if not topics:
        if len(pictures) > 1:
            raise DataError(f"{bag.path} has pictures of several topics; choose with --topic: {', '.join(pictures)}")
        return pictures
    for topic in topics:
        if topic not in pictures:
            others = {each.topic: each.type for each in bag.channels}
            if topic in others:
                choices = ", ".join(pictures)
                raise DataError(f"topic {topic} of {bag.path} is {others[topic]}, no picture; choose from: {choices}")
            raise DataError(f"{bag.path} has no topic {topic!r}; {did_you_mean(topic, pictures)}")
    return tuple(dict.fromkeys(topics))


def _one_file(path: Path) -> Path:
    """The file of a folder whose metadata.yaml is missing, as where a recorder was killed; else the path itself."""
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path")
    if not path.is_dir() or (path / METADATA).exists():
        return path
    storages = _storages(path)
    if len(storages) == 1:
        return storages[0]
    if not storages:
        raise DataError(f"{path} is no bag: it holds no {METADATA}, .mcap or .db3; check the path")
    raise DataError(f"{path} lacks {METADATA} and holds {len(storages)} files; name one of them, or: ros2 bag reindex")


def _storages(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in (".mcap", ".db3"))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, TORN):
        return "a part of it lacks or is damaged"
    return str(error).rstrip(".") or type(error).__name__


def _remedy(path: Path) -> str:
    if path.suffix == ".db3":
        return f"it is damaged, or none of ROS; of a copy that broke off try: sqlite3 {path.name} .recover"
    return "it is damaged, or none of ROS"
