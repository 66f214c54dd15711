"""A bag with what is predicted beside what was recorded: masks, confidence, the names of the classes, overlays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname

from PIL import Image

from kerbseg.core.errors import DataError, InputError
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.bags import BagSource
from kerbseg.predict.sources.frame import Frame, Source
from kerbseg.robots.bag_writer import BagWriter, write_bag
from kerbseg.robots.bags import Message, open_bag
from kerbseg.robots.messages import Topics, compressed_image, confidence_gray, gray_image, label_info, topics_under

WORDS = ("ids", "confidence", "overlay")
"""What a bag can hold of a prediction, as `--save` calls it; the names of the classes go with ids."""

SEGMENTATION = "segmentation"
QUALITY = 90  # of an overlay's JPEG

Add = Callable[[Frame, Prediction], None]


@dataclass(frozen=True)
class BagContents:
    """What goes into a bag: words of `WORDS`; `copy`: all that the source holds, too; `prefix`: of our topics."""

    words: tuple[str, ...] = ("ids", "confidence")
    copy: bool = True
    prefix: str | None = None

    def topics(self, of: Sequence[str]) -> dict[str, Topics]:
        """Our topics for each camera's: /cam/segmentation/mask for /cam/image_raw.

        Where several cameras would share them, or a prefix is given for several, each camera's whole name is in them.
        """
        places = {topic: self.prefix or f"{dirname(topic).rstrip('/')}/{SEGMENTATION}" for topic in of}
        if len(set(places.values())) < len(places):
            places = {topic: f"{self.prefix or ''}{topic}{'' if self.prefix else '/' + SEGMENTATION}" for topic in of}
        return {topic: topics_under(place) for topic, place in places.items()}


@contextmanager
def labeled_bag(target: Path, source: Source, labels: LabelSet, contents: BagContents, alpha: float) -> Iterator[Add]:
    """Takes the frames of a bag and writes another one, in its order.

    Ended early, it holds what was recorded up to the last frame. Raises InputError for a source that is no bag.
    """
    if not isinstance(source, BagSource):
        raise InputError(f"{source} is no bag, so no bag can be made of it; name a folder for the results: -o out")
    with ExitStack() as stack:
        writer = stack.enter_context(write_bag(target))
        sink = _Labeled(writer, source, labels, contents, alpha)
        stack.enter_context(sink.reading())
        yield sink.add
        sink.finish()


class _Labeled:
    """Copies the source up to each frame's message, and puts behind it what was predicted of that frame."""

    def __init__(
        self, writer: BagWriter, source: BagSource, labels: LabelSet, contents: BagContents, alpha: float
    ) -> None:
        self._writer, self._source, self._labels, self._contents = writer, source, labels, contents
        self._alpha = alpha
        self._topics = contents.topics(source.topics)
        self._rest: Iterator[Message] = iter(())
        self._start_ns: int | None = None
        self._named: set[str] = set()  # topics whose classes have been named
        self._failed: OSError | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the source open a second time, for what is copied."""
        if not self._contents.copy:
            yield
            return
        assert self._source.path is not None
        with open_bag(self._source.path) as bag:
            self._writer.add_channels(bag)
            self._rest, self._start_ns = bag.messages(), bag.start_ns
            yield

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Writes what was predicted of a frame of the bag."""
        assert frame.stamp is not None
        try:
            self._name_classes(frame)
            for message in self._rest:
                self._writer.copy(message)
                place = message.channel.topic, message.log_ns
                if message.channel.is_picture and place == (frame.stamp.topic, frame.stamp.log_ns):
                    break
            self._predicted(frame, prediction)
        except OSError as error:
            self._failed = error  # what is written so far ends in mid-record
            raise

    def finish(self) -> None:
        """Copies what was recorded behind the last frame, where all frames have been read."""
        if self._failed is not None:
            raise self._failed
        if not self._source.ended.is_set():
            return
        try:
            for message in self._rest:
                self._writer.copy(message)
        except DataError:
            pass  # that it is cut off, which the source has said

    def _name_classes(self, frame: Frame) -> None:
        """Before anything else of a camera: players send it first, and keep it for who comes late."""
        stamp = frame.stamp
        assert stamp is not None
        if "ids" not in self._contents.words or stamp.topic in self._named:
            return
        self._named.add(stamp.topic)
        log_ns = stamp.log_ns if self._start_ns is None or len(self._named) > 1 else self._start_ns
        names = label_info(self._labels, stamp.stamp_ns, stamp.frame_id)
        self._writer.write(self._topics[stamp.topic].labels, names, log_ns)

    def _predicted(self, frame: Frame, prediction: Prediction) -> None:
        stamp, words = frame.stamp, self._contents.words
        assert stamp is not None
        topics, head = self._topics[stamp.topic], (stamp.stamp_ns, stamp.frame_id)
        if "ids" in words:
            self._writer.write(topics.mask, gray_image(prediction.ids, *head), stamp.log_ns)
        if "confidence" in words:
            assert prediction.confidence is not None
            gray = gray_image(confidence_gray(prediction.confidence), *head)
            self._writer.write(topics.confidence, gray, stamp.log_ns)
        if "overlay" in words:
            jpeg = io.BytesIO()
            Image.fromarray(prediction.blend(self._alpha)).save(jpeg, "JPEG", quality=QUALITY)
            self._writer.write(topics.overlay, compressed_image(jpeg.getvalue(), *head), stamp.log_ns)
