"""A node of a robot: the pictures of a topic in, what is predicted of them out, the newest picture first.

How messages come and go is a `Link`: over Zenoh without ROS (`kerbseg.robots.zenoh_link`), or within ROS by rclpy
(integrations/ros2).
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

from PIL import Image

from kerbseg.core.errors import Interrupted, KerbsegError
from kerbseg.predict import interrupts
from kerbseg.predict.drawings import Style
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.videos import Segmenter, checked_segmenter
from kerbseg.robots.images import message_rgb
from kerbseg.robots.messages import (
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    IMAGE,
    LABEL_INFO,
    compressed_image,
    confidence_gray,
    deserialize,
    gray_image,
    header,
    label_info,
    serialize,
    stamp_ns_of,
    topics_under,
    typestore,
)
from kerbseg.robots.rmw import checked_topic, number_of

DIAGNOSTICS_TOPIC = "/diagnostics"  # where ROS's tools look for them
DIAGNOSTICS_S = 1.0
SILENT_S = 5.0  # without a picture; then it is said once
PATIENCE_S = 0.1  # between looks whether the node is to end
LATENCIES = 1000  # the last so many are kept, so that a node may run for weeks
KINDS = 20  # of bad messages that are told; others are counted
QUALITY = 90  # of an overlay's JPEG
OK, WARN, ERROR = 0, 1, 2  # diagnostic_msgs/DiagnosticStatus
DIGITS = re.compile(r"\d+")

Receive = Callable[[Callable[[], bytes], bytes], None]
Publish = Callable[[bytes], None]


class Link(Protocol):
    """Topics of ROS: messages are CDR; `receive` is called, from any thread, with what reads a message's bytes."""

    def subscribe(self, topic: str, type_name: str, receive: Receive) -> None: ...

    def publisher(self, topic: str, type_name: str, latched: bool = False) -> Publish: ...


@dataclass(frozen=True)
class NodeOptions:
    """What a node listens to and says: the mask always, its confidence and an overlay where they are asked for."""

    image: str  # a topic of pictures; one that ends with /compressed has CompressedImage
    out: str = "/kerbseg"  # before the topics of the results
    confidence: bool = False
    overlay: bool = False
    style: Style = field(default_factory=Style)
    frames: int | None = None  # end after so many
    seconds: float | None = None  # or after this time

    def __post_init__(self) -> None:
        for topic in (self.image, self.out):
            checked_topic(topic)
        if (self.frames is not None and self.frames < 1) or (self.seconds is not None and not self.seconds > 0):
            raise KerbsegError("a node that ends by itself does so after 1 frame or more, or more than 0 seconds")

    @property
    def type_name(self) -> str:
        """The type of the messages that hold the pictures."""
        return COMPRESSED_IMAGE if self.image.endswith("/compressed") else IMAGE


@dataclass(frozen=True)
class NodeReport:
    """What came of a node's work: every message that was received was segmented, dropped or bad."""

    received: int
    segmented: int
    dropped: int  # came while another one was worked on, and were not the newest
    bad: int  # could not be read, or not be segmented
    lost: int  # were sent, and never came
    elapsed_s: float
    latency_median_ms: float | None  # from a message's coming to its results' going, of the last 1,000
    latency_max_ms: float | None
    last_error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg node --json` writes it."""
        return {
            "received": self.received,
            "segmented": self.segmented,
            "dropped": self.dropped,
            "bad": self.bad,
            "lost": self.lost,
            "seconds": self.elapsed_s,
            "frames_per_second": self.segmented / self.elapsed_s if self.elapsed_s else None,
            "latency_ms": {"median": self.latency_median_ms, "max": self.latency_max_ms},
            "last_error": self.last_error or None,
        }

    def __str__(self) -> str:
        rate = f", {self.segmented / self.elapsed_s:.1f} a second" if self.elapsed_s else ""
        latency = ""
        if self.latency_median_ms is not None and self.latency_max_ms is not None:
            latency = f"; latency {self.latency_median_ms:.0f} ms median, {self.latency_max_ms:.0f} ms at most"
        lost = f", {self.lost} lost on the way" if self.lost else ""
        counted = f"{self.received} received{lost}, {self.dropped} dropped, {self.bad} bad"
        return f"{self.segmented} segmented{rate}{latency}; {counted}"


@dataclass(frozen=True)
class _Message:
    read: Callable[[], bytes]
    came_s: float


class _Newest:
    """Holds the newest message until it is taken, and counts those that it replaced."""

    def __init__(self) -> None:
        self.received = self.dropped = self.lost = 0
        self._message: _Message | None = None
        self._numbers: dict[bytes, int] = {}  # the last of each sender
        self._changed = threading.Condition()

    def put(self, read: Callable[[], bytes], beside: bytes) -> None:
        """Takes the place of one that nobody has taken yet."""
        message = _Message(read, time.monotonic())
        with self._changed:
            self.received += 1
            self.dropped += self._message is not None
            self._message = message
            self._count_lost(beside)
            self._changed.notify()

    def _count_lost(self, beside: bytes) -> None:
        sent = number_of(beside)
        if sent is None:
            return
        number, sender = sent
        before = self._numbers.pop(sender, None)
        if before is not None:
            self.lost += max(0, number - before - 1)
        self._numbers[sender] = number
        if len(self._numbers) > KINDS:  # the one that was silent longest
            del self._numbers[next(iter(self._numbers))]

    def take(self, timeout_s: float) -> _Message | None:
        """The newest, once there is one; None where none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._message is not None, timeout_s)
            message, self._message = self._message, None
            return message

    def close(self) -> None:
        """Drops what nobody has taken."""
        with self._changed:
            self.dropped += self._message is not None
            self._message = None


class SegmentationNode:
    """Segments the newest picture of a topic, again and again, and publishes what is predicted with its header.

    Pictures that come while one is worked on are dropped but for the newest, and counted. A message that cannot be read
    or segmented is counted, and told once for each kind by `tell`; the node goes on.
    """

    def __init__(
        self, predictor: Segmenter, link: Link, options: NodeOptions, tell: Callable[[str], object] = lambda text: None
    ) -> None:
        checked_segmenter(predictor)
        self._predictor, self._options, self._tell = predictor, options, tell
        self._image = checked_topic(options.image)
        self.topics = topics_under(options.out)
        self._publish = {topic: link.publisher(topic, name) for topic, name in self._results().items()}
        self._diagnose = link.publisher(DIAGNOSTICS_TOPIC, DIAGNOSTICS)
        self._newest = _Newest()
        self._segmented = self._bad = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._longest = 0.0
        self._told: set[str] = set()
        self._last_error = ""
        self._started = self._diagnosed = time.monotonic()
        self._before = (0, 0)  # segmented and bad when last diagnosed
        self._silent = False
        name_classes = link.publisher(self.topics.labels, LABEL_INFO, latched=True)
        name_classes(serialize(label_info(predictor.labels, time.time_ns(), "")))
        link.subscribe(self._image, options.type_name, self._newest.put)

    @property
    def published(self) -> list[str]:
        """The topics of the results."""
        return [*self._publish, self.topics.labels, DIAGNOSTICS_TOPIC]

    def _results(self) -> dict[str, str]:
        topics = {self.topics.mask: IMAGE}
        if self._options.confidence:
            topics[self.topics.confidence] = IMAGE
        if self._options.overlay:
            topics[self.topics.overlay] = COMPRESSED_IMAGE
        return topics

    def run(self, over: Callable[[], bool] = lambda: False) -> NodeReport:
        """Works until it is told to end (`interrupts.ending_once`), has done what its options say, or all is `over`."""
        try:
            with interrupts.held():
                while not self._done() and not over():
                    interrupts.check()
                    message = self._newest.take(PATIENCE_S)
                    if message is not None:
                        self._work(message)
                    self._look_after()
        except Interrupted:
            pass  # how a node ends that has no other end
        self._newest.close()
        self._publish_diagnostics()
        return self.report()

    def report(self) -> NodeReport:
        """So far."""
        newest = self._newest
        return NodeReport(
            received=newest.received,
            segmented=self._segmented,
            dropped=newest.dropped,
            bad=self._bad,
            lost=newest.lost,
            elapsed_s=time.monotonic() - self._started,
            latency_median_ms=median(self._latencies) if self._latencies else None,
            latency_max_ms=self._longest if self._latencies else None,
            last_error=self._last_error,
        )

    def _done(self) -> bool:
        options = self._options
        enough = options.frames is not None and self._segmented >= options.frames
        return enough or (options.seconds is not None and time.monotonic() - self._started >= options.seconds)

    def _work(self, message: _Message) -> None:
        try:
            shown = f"a message of {self._image}"
            picture = deserialize(message.read(), self._options.type_name, shown=shown)
            stamp_ns = stamp_ns_of(picture)
            rgb = message_rgb(picture, shown)
            prediction = self._predictor(rgb, channels="rgb", confidence=self._options.confidence)
        except KerbsegError as error:
            self._note(error)
            return
        self._send(prediction, stamp_ns, picture.header.frame_id)
        self._segmented += 1
        latency_ms = 1000 * (time.monotonic() - message.came_s)
        self._latencies.append(latency_ms)
        self._longest = max(self._longest, latency_ms)

    def _note(self, error: KerbsegError) -> None:
        self._bad += 1
        self._last_error = str(error)
        kind = DIGITS.sub("0", str(error))
        if kind not in self._told and len(self._told) < KINDS:
            self._told.add(kind)
            self._tell(f"{error} (told once; such messages are counted)")

    def _send(self, prediction: Prediction, stamp_ns: int, frame_id: str) -> None:
        topics, options = self.topics, self._options
        self._publish[topics.mask](serialize(gray_image(prediction.ids, stamp_ns, frame_id)))
        if options.confidence:
            assert prediction.confidence is not None, "it was asked for"
            gray = confidence_gray(prediction.confidence)
            self._publish[topics.confidence](serialize(gray_image(gray, stamp_ns, frame_id)))
        if options.overlay:
            jpeg = io.BytesIO()
            Image.fromarray(prediction.blend(options.style.alpha)).save(jpeg, "JPEG", quality=QUALITY)
            self._publish[topics.overlay](serialize(compressed_image(jpeg.getvalue(), stamp_ns, frame_id)))

    def _look_after(self) -> None:
        """Publishes diagnostics once a second, and says where no picture has come at all."""
        now = time.monotonic()
        if now - self._diagnosed >= DIAGNOSTICS_S:
            self._publish_diagnostics()
        if not self._silent and not self._newest.received and now - self._started >= SILENT_S:
            self._silent = True
            self._tell(f"no picture has come on {self._image} yet; check its name, its type and the domain")

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        report, elapsed_s = self.report(), max(now - self._diagnosed, 1e-9)
        segmented, bad = (new - old for new, old in zip((self._segmented, self._bad), self._before, strict=True))
        self._diagnosed, self._before = now, (self._segmented, self._bad)
        level, text = (OK, "segmenting") if segmented else (WARN, "no picture came")
        if bad:
            level, text = (WARN, "some messages are bad") if segmented else (ERROR, self._last_error)
        values = {
            "rate (Hz)": f"{segmented / elapsed_s:.2f}",
            "latency median (ms)": _figure(report.latency_median_ms),
            "latency max (ms)": _figure(report.latency_max_ms),
            "received": str(report.received),
            "segmented": str(report.segmented),
            "dropped": str(report.dropped),
            "bad": str(report.bad),
            "lost": str(report.lost),
            "last error": report.last_error,
        }
        types = typestore().types
        pairs = [types["diagnostic_msgs/msg/KeyValue"](key, value) for key, value in values.items()]
        status = types["diagnostic_msgs/msg/DiagnosticStatus"](level, f"kerbseg: {self._image}", text, "", pairs)
        self._diagnose(serialize(types[DIAGNOSTICS](header(time.time_ns(), ""), [status])))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
