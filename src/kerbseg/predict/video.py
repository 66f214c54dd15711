"""Videos and streams: decoded, segmented, drawn and encoded at the same time, in constant memory, at the same times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, UserError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.pipeline import Stage, ThreadedPipeline
from kerbseg.predict.sources.pyav import Frame, av_module, frames
from kerbseg.predict.sources.streams import RawFrames, Stream
from kerbseg.predict.temporal.flicker import Flicker, FlickerMeter
from kerbseg.predict.temporal.vote import TemporalVote, checked_memory, delay

if TYPE_CHECKING:
    from kerbseg.predict.predictor import Predictor

Ids = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class VideoReport:
    """What came of one video, whole or not."""

    source: str
    target: Path
    frames: int
    elapsed_s: float
    whole: bool  # False: damaged, cut off, or interrupted
    smooth: float | None
    flicker: Flicker | None

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg predict --json` writes it."""
        return {
            "source": self.source,
            "target": str(self.target),
            "frames": self.frames,
            "frames_per_second": self.frames / self.elapsed_s if self.elapsed_s else None,
            "whole": self.whole,
            "smooth": None if self.smooth is None else {"memory": self.smooth, "delay_frames": delay(self.smooth)},
            "flicker": None if self.flicker is None else self.flicker.to_dict(),
        }

    def __str__(self) -> str:
        speed = f"{self.frames / self.elapsed_s:.1f} a second" if self.elapsed_s else "at once"
        measured = "" if self.flicker is None else f"; {self.flicker}"
        return f"{self.target}: {self.frames} frames, {speed}{measured}"


def _unreported(report: VideoReport) -> None:
    pass


@dataclass(frozen=True)
class VideoOptions:
    """How videos are segmented.

    `smooth` is the memory of a vote over time (see `TemporalVote`), `flicker` measures how much the classes change
    between aligned frames, `raw` says what the standard input's frames are where they come without a container, and
    `told` hears what came of each video, of one that ended early too.
    """

    smooth: float | None = None
    flicker: bool = False
    raw: RawFrames | None = None
    told: Callable[[VideoReport], object] = _unreported

    def __post_init__(self) -> None:
        if self.smooth is not None:
            checked_memory(self.smooth)

    def steps(self, predictor: Predictor, stream: Stream, target: Path) -> Generator[None]:
        """Writes the overlay of a video as it is iterated, one step a frame.

        Whatever ends it (the end, damage, Ctrl-C, `close`), the frames until then become a file that can be played.
        Raises DataError for a stream that is damaged or none, UserError where the file cannot be written.
        """
        meter = FlickerMeter() if self.flicker else None
        source = frames(stream)
        started, ending = time.monotonic(), None
        with atomic_write(target) as temporary, closing(Sink(temporary, target)) as sink:
            work = ThreadedPipeline(source, *stages(self._steadied(predictor), meter), sink.add)
            try:
                for _ in work:
                    yield
            except (DataError, KeyboardInterrupt, GeneratorExit) as error:
                ending = error
                work.stop()
                with suppress(DataError):  # of two endings the first is told
                    for _ in work:  # what is under way
                        pass
                if not sink.frames:
                    raise
            finally:
                work.stop()
            sink.finish()
        measured = meter.result if meter else None
        elapsed_s = time.monotonic() - started
        self.told(VideoReport(str(stream), target, sink.frames, elapsed_s, ending is None, self.smooth, measured))
        if isinstance(ending, DataError):
            raise DataError(f"{ending}; what was finished is kept: {sink.frames} frames in {target}") from ending
        if ending is not None:
            raise ending

    def _steadied(self, predictor: Predictor) -> Predictor:
        """A predictor of its own for each video, since it remembers."""
        return (
            predictor if self.smooth is None else predictor.with_runtime(TemporalVote(predictor.runtime, self.smooth))
        )


def stages(predictor: Predictor, meter: FlickerMeter | None = None) -> list[Stage]:
    """What turns a frame into a frame with its overlay, as a pipeline's stages."""

    def segment(frame: Frame) -> tuple[Frame, Ids]:
        return frame, predictor(frame.picture).ids

    def measure(work: tuple[Frame, Ids]) -> tuple[Frame, Ids]:
        assert meter is not None
        meter.add(work[0].picture, work[1])
        return work

    def draw(work: tuple[Frame, Ids]) -> tuple[Frame, np.ndarray]:
        frame, ids = work
        return frame, _even(tinted(frame.picture, ids, predictor.runtime.card.labels))

    return [segment, draw] if meter is None else [segment, measure, draw]


def tinted(picture: UInt8[np.ndarray, "h w 3"], ids: Ids, labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """Half picture, half classes' colours, borders dark: `draw.overlay` in whole numbers, for every frame needs it."""
    mixed = (labels.palette >> 1).take(ids, 0)
    mixed += picture >> 1
    borders = np.zeros(ids.shape, bool)
    borders[:, :-1] = ids[:, :-1] != ids[:, 1:]
    borders[:-1] |= ids[:-1] != ids[1:]
    mixed[borders] >>= 1
    return mixed


def _even(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class Sink:
    """An MP4 of H.264 whose frames have the times of their sources; the file begins with the first frame."""

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        self.frames = 0
        self._path, self._shown = path, shown or path  # a temporary name means nothing to a user
        self._writer: Any = None
        self._stream: Any = None
        self._closed = False
        self._lock = threading.Lock()  # a second Ctrl-C closes the file while a stage may be writing to it

    def add(self, work: tuple[Frame, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Encodes one frame; one of another size than the first is made the first one's size."""
        av = av_module()
        try:
            with self._lock:
                if not self._closed:
                    self._encode(*work)
        except av.FFmpegError as error:
            raise self._unwritable(error) from error

    def _encode(self, frame: Frame, drawn: UInt8[np.ndarray, "h w 3"]) -> None:
        if self._writer is None:
            self._open(frame, drawn)
        stream = self._stream
        new = av_module().VideoFrame.from_ndarray(drawn, format="rgb24")
        new = new.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU601")
        new.pts, new.time_base, new.duration = frame.pts, frame.time_base, frame.duration
        self._writer.mux(stream.encode(new))
        self.frames += 1

    def finish(self) -> None:
        """Writes what the encoder still holds, and what makes the file playable."""
        av = av_module()
        try:
            self._writer.mux(self._stream.encode(None))
            self._writer.close()
        except av.FFmpegError as error:
            raise self._unwritable(error) from error
        self._writer = None

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._closed = True
            if self._writer is None:
                return
            with suppress(av_module().FFmpegError):  # there is an error already, and it says more
                self._writer.close()

    def _open(self, frame: Frame, drawn: np.ndarray) -> None:
        av = av_module()
        # the time of the first frame is written in this scale: in milliseconds, as it would be, it is not exact
        scale = {"movie_timescale": str(frame.time_base.denominator)}
        self._writer = av.open(str(self._path), "w", options=scale)
        self._stream = self._writer.add_stream(
            "libx264", rate=frame.rate, options={"crf": "20", "preset": "veryfast", "colorspace": "smpte170m"}
        )
        self._stream.height, self._stream.width, self._stream.pix_fmt = *drawn.shape[:2], "yuv420p"
        self._stream.codec_context.time_base = frame.time_base

    def _unwritable(self, error: Any) -> UserError:
        return UserError(f"cannot write {self._shown}: {error.strerror}; free space or choose another place")
