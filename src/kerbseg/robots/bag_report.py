"""What is in a bag: topics, rates, gaps, stamps, and the pictures' encodings and sizes."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from kerbseg.core.errors import DataError
from kerbseg.core.text import counted
from kerbseg.data.pictures import open_embedded
from kerbseg.robots.bags import Bag, Channel, Message, open_bag
from kerbseg.robots.images import COMPRESSED, check_encoding, check_format, message_rgb
from kerbseg.robots.messages import IMAGE, SECOND

LONG = 2.5
"""A gap: so many times the usual time between messages."""

EARLIEST_NS, LATEST_NS = -(2**63), 2**63 - 1  # what a figure of 8 bytes holds; a damaged bag says other times

HEADERS = ("std_msgs/Header ", "std_msgs/msg/Header ", "Header ")
"""How the text of a type begins whose messages begin with a header."""


@dataclass(frozen=True)
class TopicReport:
    """Figures of one topic; times are those of the headers, or of the recording where not all have some that rise."""

    topic: str
    type: str
    messages: int
    hz: float | None  # by the usual (median) time between messages
    gaps: int  # longer than 2.5 times the usual
    longest_gap_s: float | None
    longest_gap_at_s: float | None  # since the bag's first message
    missing_stamps: int | None = None  # None: its type has no header
    backward_stamps: int | None = None
    pictures: dict[str, int] = field(default_factory=dict)  # such as "rgb8 480x640" (height x width) -> messages
    unreadable: str | None = None  # why its pictures, or the first that is damaged, cannot be read

    @property
    def problems(self) -> list[str]:
        """What keeps its messages from being used as they are."""
        told = []
        if self.missing_stamps:
            told.append(f"{self.topic}: {counted(self.missing_stamps, 'header')} without a time")
        if self.backward_stamps:
            told.append(f"{self.topic}: {counted(self.backward_stamps, 'header')} with a time before the one before it")
        if self.unreadable is not None:
            told.append(self.unreadable)
        return told


@dataclass(frozen=True)
class BagReport:
    """What a bag holds, and what is wrong with it."""

    bag: str
    ros: int
    size_bytes: int
    start_ns: int
    duration_s: float
    topics: tuple[TopicReport, ...]
    damage: str | None  # where it is cut off or damaged

    @property
    def problems(self) -> list[str]:
        """One line for each."""
        told = [] if self.damage is None else [self.damage]
        if self.damage is None and not any(topic.messages for topic in self.topics):
            told.append(f"{self.bag} holds no message; record it anew")
        return told + [line for topic in self.topics for line in topic.problems]

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg doctor BAG --json` writes it."""
        topics = [{**vars(topic), "problems": topic.problems} for topic in self.topics]
        return {**vars(self), "topics": topics, "problems": self.problems}

    @property
    def head(self) -> str:
        """Its kind, length, size and beginning in one line."""
        size = f"{self.size_bytes / 1e6:,.1f} MB"
        told = f"{self.bag}: ROS {self.ros}, {self.duration_s:.2f} s, {size}"
        if not self.start_ns:  # no messages
            return told
        begins = datetime.fromtimestamp(self.start_ns / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"{told}, recorded {begins}"


class _Topic:
    """What is gathered of one topic."""

    def __init__(self, channel: Channel, bag: Bag) -> None:
        self._channel, self._bag = channel, bag
        self._recorded, self._stamped = array("q"), array("q")
        self._missing = self._backward = 0
        self._stamp = _stamp_reader(channel)
        self._pictures: Counter[str] = Counter()
        self._unreadable: str | None = None

    def add(self, message: Message) -> None:
        self._recorded.append(max(EARLIEST_NS, min(message.log_ns, LATEST_NS)))
        if self._stamp is not None:
            stamp = self._stamp(message.data)
            self._missing += not stamp
            if stamp:
                self._backward += bool(self._stamped) and stamp < self._stamped[-1]
                self._stamped.append(stamp)
        if self._channel.is_picture:
            self._look(message)

    def _look(self, message: Message) -> None:
        shown = f"topic {self._channel.topic}"
        try:
            content = self._channel.read(message.data, f"a message of {shown}")
            kind = _kind_of(content, shown)
            if kind not in self._pictures:
                message_rgb(content, shown)
            self._pictures[kind] += 1
        except DataError as error:
            self._unreadable = self._unreadable or str(error)

    def report(self) -> TopicReport:
        has_stamps = self._stamp is not None
        times = self._stamped if has_stamps and not self._missing and not self._backward else self._recorded
        steps = [after - before for before, after in pairwise(times)]
        usual = median(steps) if steps else 0
        longest = int(np.argmax(steps)) if steps else None
        return TopicReport(
            topic=self._channel.topic,
            type=self._channel.type.replace("/msg/", "/"),
            messages=len(self._recorded),
            hz=SECOND / usual if usual > 0 else None,
            gaps=sum(step > LONG * usual for step in steps) if usual > 0 else 0,
            longest_gap_s=None if longest is None else steps[longest] / SECOND,
            longest_gap_at_s=None if longest is None else (self._recorded[longest] - self._bag.start_ns) / SECOND,
            missing_stamps=self._missing if has_stamps else None,
            backward_stamps=self._backward if has_stamps else None,
            pictures=dict(self._pictures.most_common()),
            unreadable=self._unreadable,
        )


def examine_bag(path: str | Path, track: Callable[[Iterable[Any]], Iterable[Any]] = iter) -> BagReport:
    """Reads a bag from its first to its last message. Raises DataError for what is none."""
    path = Path(path)
    with open_bag(path) as bag:
        topics = {channel: _Topic(channel, bag) for channel in bag.channels}
        damage = None
        try:
            for message in track(bag.messages()):
                topics[message.channel].add(message)
        except DataError as error:
            damage = str(error)
        reports = sorted((topic.report() for topic in topics.values()), key=lambda each: each.topic)
        files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
        return BagReport(
            bag=str(path),
            ros=bag.ros,
            size_bytes=sum(each.stat().st_size for each in files),
            start_ns=bag.start_ns,
            duration_s=(bag.end_ns - bag.start_ns) / SECOND,
            topics=tuple(reports),
            damage=damage,
        )


def _stamp_reader(channel: Channel) -> Callable[[bytes], int] | None:
    """What reads the time out of the header that a topic's messages begin with; None where they have none."""
    lines = (line.strip() for line in channel.connection.msgdef.data.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if not channel.is_picture and not first.startswith(HEADERS):
        return None

    def stamp(data: bytes) -> int:
        try:
            if channel.ros == 1:
                sec, nanosec = struct.unpack_from("<II", data, 4)  # behind a number
            else:
                sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
        except (struct.error, IndexError):
            return 0
        return int(sec * SECOND + nanosec)

    return stamp


def _kind_of(content: Any, shown: str) -> str:
    """Encoding and size (height x width) of a picture."""
    if content.__msgtype__ == IMAGE:
        check_encoding(content.encoding, shown)
        return f"{content.encoding} {content.height}x{content.width}"
    check_format(content.format, shown)
    with open_embedded(content.data.tobytes(), shown, COMPRESSED) as image:
        return f"{(image.format or '').lower()} {image.height}x{image.width}"


def render(report: BagReport) -> Any:
    """Tables for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("topic", "type"):
        table.add_column(title, overflow="fold")
    for title in ("messages", "Hz", "gaps", "longest"):
        table.add_column(title, justify="right")
    for each in report.topics:
        longest = "" if each.longest_gap_s is None else f"{each.longest_gap_s:.3f} s"
        hz = "" if each.hz is None else f"{each.hz:.1f}"
        table.add_row(Text(each.topic), Text(each.type), str(each.messages), hz, str(each.gaps), longest)
    parts: list[Any] = [Text(report.head), table]
    for each in report.topics:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in each.pictures.items())
        if kinds:
            parts.append(Text(f"pictures of {each.topic} (height x width): {kinds}"))
        if each.gaps and each.longest_gap_s is not None and each.longest_gap_at_s is not None:
            parts.append(
                Text(
                    f"note: {each.topic} is silent for {each.longest_gap_s:.3f} s at {each.longest_gap_at_s:.2f} s",
                    style="yellow",
                )
            )
    parts += [Text(line, style="red") for line in report.problems]
    parts.append(
        Text(f"{counted(len(report.problems), 'problem')}" if report.problems else "healthy: nothing to mend", "bold")
    )
    return Group(*parts)
