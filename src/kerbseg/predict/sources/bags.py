"""Frames of a robot's recording: the pictures of its topics, with the stamps of their messages."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

from kerbseg.core.errors import DataError, KerbsegWarning
from kerbseg.data.pictures import SUFFIXES as SUFFIXES_OF_PICTURES
from kerbseg.predict.sources.frame import Frame, Source, Stamp
from kerbseg.predict.sources.pyav import VIDEO_SUFFIXES
from kerbseg.robots.bags import METADATA, SUFFIXES, Bag, Message, chosen_topics, is_bag, open_bag
from kerbseg.robots.images import check_encoding, check_format, message_rgb
from kerbseg.robots.messages import IMAGE, SECOND, stamp_ns_of

BAG_SUFFIXES = SUFFIXES


@dataclass(frozen=True)
class BagSource(Source):
    """The pictures of some topics of a bag, in the order of recording; `path` is the bag."""

    topics: tuple[str, ...] = ()  # none: not yet chosen
    ended: Event = field(default_factory=Event, compare=False, repr=False)  # set where all has been read

    def of_topics(self, topics: Collection[str] = ()) -> BagSource:
        """The same, of the topics that are named, or of the only one. Raises DataError as `chosen_topics`."""
        assert self.path is not None
        with open_bag(self.path) as bag:
            chosen = chosen_topics(bag, topics)
            count, rate = bag.count(chosen), _rate(bag, chosen)
        ended, path = Event(), self.path
        return replace(
            self,
            frames=lambda: _frames(path, chosen, rate, ended),
            count=lambda: count,
            topics=chosen,
            ended=ended,
        )

    def each(self) -> list[BagSource]:
        """One for each topic, whose names tell them apart: a video is one camera's."""
        if len(self.topics) <= 1:
            return [self]
        return [
            replace(self.of_topics([topic]), name=f"{self.name}{topic.replace('/', '_')}", origin=f"{self} {topic}")
            for topic in self.topics
        ]


def bag_source(path: Path) -> BagSource:
    """A bag as a source whose topics are still to be chosen; that opens it."""
    return BagSource(path.stem if path.is_file() else path.name, lambda: iter(()), str(path), "video", path)


def find_bag(given: str) -> BagSource | None:
    """The bag that an input names, None for what is none."""
    path = Path(given)
    return bag_source(path) if is_bag(path) and not _is_of_inputs(path) else None


def _is_of_inputs(path: Path) -> bool:
    """Whether it is a folder of pictures or videos in which bags lie too: none of them is to be left out in silence."""
    if not path.is_dir() or (path / METADATA).is_file():
        return False
    others = SUFFIXES_OF_PICTURES | VIDEO_SUFFIXES
    return any(each.suffix.lower() in others and not each.name.startswith(".") for each in path.iterdir())


def _rate(bag: Bag, topics: Collection[str]) -> Fraction:
    """Pictures a second of a topic on average."""
    count, span_ns = bag.count(topics) // len(topics) - 1, bag.end_ns - bag.start_ns
    if count < 1 or span_ns <= 0:
        return Fraction(25)
    return Fraction(count * SECOND, span_ns).limit_denominator(1000) or Fraction(1, 1000)


def _frames(path: Path, topics: tuple[str, ...], rate: Fraction, ended: Event) -> Iterator[Frame]:
    """The pictures. Those that are damaged are left out, with a KerbsegWarning of how many.

    Raises DataError for an encoding that is not read, where there is no whole picture, and after the last whole
    message of a bag that is cut off.
    """
    ended.clear()
    number, damaged, error = 0, Counter[str](), None
    clocks = {topic: _Clock() for topic in topics}
    with open_bag(path) as bag:
        try:
            for message in bag.messages(topics):
                if not message.channel.is_picture:  # another type under the same name
                    continue
                shown = f"a message of {message.channel.topic} in {path}"
                content = None
                try:
                    content = message.channel.read(message.data, shown)
                    stamp = stamp_of(message, content)
                    picture = message_rgb(content, shown)
                except DataError as problem:
                    if content is not None:
                        _check_kind(content, f"topic {message.channel.topic} of {path}")
                    damaged[message.channel.topic] += 1
                    error = error or problem
                    continue
                yield Frame(
                    picture=picture,
                    index=number,
                    pts=clocks[stamp.topic](stamp),
                    rate=rate,
                    origin=str(path),
                    stamp=stamp,
                )
                number += 1
        except DataError:
            ended.set()
            raise
        ended.set()
        for topic, count in damaged.items():
            text = f"{path}: {count} of {bag.count([topic])} pictures of {topic} are damaged, and are left out"
            warnings.warn(KerbsegWarning(text), stacklevel=2)
    if error is not None and not number:
        raise error
    if not number:
        raise DataError(f"{path} holds no message of {', '.join(topics)}; choose another topic, or record it anew")


def _check_kind(content: Any, shown: str) -> None:
    """Raises DataError for a picture of a kind that is not read."""
    if content.__msgtype__ == IMAGE:
        check_encoding(content.encoding, shown)
    else:
        check_format(content.format, shown)


def stamp_of(message: Message, content: Any) -> Stamp:
    """Where a picture comes from: its topic, what its header says, and when it was recorded.

    Raises DataError for a header whose time is none.
    """
    return Stamp(message.channel.topic, content.header.frame_id, stamp_ns_of(content), message.log_ns)


class _Clock:
    """Times that rise: those of the headers, or of the recording where a header has none."""

    def __init__(self) -> None:
        self._last: int | None = None

    def __call__(self, stamp: Stamp) -> int:
        time = stamp.stamp_ns or stamp.log_ns
        self._last = time if self._last is None else max(time, self._last + 1)
        return self._last
