"""An MP4 of what is drawn of the frames, with their own times."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.drawings import Style
from kerbseg.predict.legend import legend_strip
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sinks.full import SinkFull
from kerbseg.predict.sources.containers import end_of_fragments
from kerbseg.predict.sources.frame import Frame, Source
from kerbseg.predict.sources.pyav import av_module
from kerbseg.predict.sources.streams import local_url
from kerbseg.runtime.checks import all_threads

FINEST = Fraction(1, 10_000_000)
"""A time base that is finer becomes microseconds: MP4 has 31 bits for the time between frames."""

FRAGMENTS = {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "1000000", "flush_packets": "1"}
"""The file can be played up to the last whole second while it grows; at its end it becomes an ordinary MP4."""

HEAD = 4096
"""Bytes at the beginning of a file, in which the muxer marks it as whole."""

ENCODING = {
    "preset": "ultrafast",
    "x264-params": "no-deblock=0:partitions=i4x4",
    "crf": "22",
    "bf": "0",
    "colorspace": "smpte170m",
}
"""As good as preset veryfast at crf 20 (PSNR), in a third of its time; blocks are smoothed. No
frame looks ahead: its time could not be held by a fragment over long pauses."""

PIXELS_A_THREAD = 1_000_000
"""Of a frame, for each thread of the encoder: for smaller ones threads cost more than they bring, since decoding,
network and drawing take the processor at the same time."""

Add = Callable[[Frame, Prediction], None]

REORDERED = 5
"""Frames that the encoder may look at together: the times of these must not lie farther apart than that."""


Draw = Callable[[Prediction, float], UInt8[np.ndarray, "h w 3"]]


def mp4(draw: Draw) -> Callable[[Path, Source, LabelSet, Style], AbstractContextManager[Add]]:
    """What opens a video of what `draw` makes of each prediction and the weight of the colors."""

    @contextmanager
    def open(target: Path, source: Source, labels: LabelSet, style: Style) -> Iterator[Add]:
        below = Legend(labels) if style.legend else None

        def add(frame: Frame, prediction: Prediction) -> None:
            drawn = draw(prediction, style.alpha)
            writer.add(frame, drawn if below is None else below(drawn, prediction.unknown is not None))

        # of a source that failed before its first frame nothing is left
        with atomic_write(target) as temporary, closing(VideoWriter(temporary, target)) as writer:
            yield add
            full = writer.finish()
        if full is not None:
            raise full

    return open


class Legend:
    """Puts one legend of all classes below every frame, so that nothing in it moves."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._size, self._strip = (0, 0), np.zeros((0, 0, 3), np.uint8)

    def __call__(self, drawn: UInt8[np.ndarray, "h w 3"], unknown: bool = False) -> UInt8[np.ndarray, "H w 3"]:
        """The frame above the legend, which is drawn once for frames of a size; `unknown` pixels are an entry of it."""
        height, width = drawn.shape[:2]
        if self._size != (height, width):
            self._size, self._strip = (height, width), legend_strip(self._labels, height, width, unknown)
        return np.concatenate([drawn, self._strip])


class VideoWriter:
    """An MP4 of H.264 whose frames have the times of their sources; the file begins with the first frame."""

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        self._path, self._shown = path, shown or path  # a temporary name means nothing to a user
        self._writer: Any = None
        self._stream: Any = None
        self._threads = 1
        self._reformatter: Any = None  # one for all frames: to set it up takes longer than to use it
        self._start = 0  # of a robot's stamps, which count from 1970
        self._times: deque[Fraction] = deque(maxlen=REORDERED)
        self._full: SinkFull | None = None
        self._closed = False
        self._lock = threading.Lock()  # the file may be closed while a stage is writing to it

    def add(self, frame: Frame, drawn: UInt8[np.ndarray, "h w 3"]) -> None:
        """Encodes what was drawn of a frame; one of another size than the first is made the first one's size.

        Raises InputError for a frame that is not later than the one before it, SinkFull where the disk is full: the
        seconds that were whole by then can be played.
        """
        av = av_module()
        with self._lock:
            if self._closed or self._full is not None:
                return
            try:
                self._encode(frame, _even(drawn))
            except av.FFmpegError as error:
                self._full = self._salvaged(error)
                raise self._full from error

    def finish(self) -> SinkFull | None:
        """Makes the file whole. Gives the reason where it ends early, if `add` did not; raises it for an empty one."""
        av = av_module()
        late = self._full is None
        if self._full is None:
            try:
                self._writer.mux(self._stream.encode(None))
                self._writer.close()
                self._writer = None
            except av.FFmpegError as error:
                self._full = self._salvaged(error)
        if self._full is not None and not self._full.frames:
            raise self._full
        return self._full if late else None

    def _encode(self, frame: Frame, drawn: UInt8[np.ndarray, "h w 3"]) -> None:
        self._check_time(frame)
        if self._writer is None:
            self._open(frame, drawn)
        stream = self._stream
        new = av_module().VideoFrame.from_numpy_buffer(drawn, format="rgb24")
        new = self._reformatter.reformat(
            new, stream.width, stream.height, "yuv420p", dst_colorspace="ITU601", threads=self._threads
        )
        unit = _unit(frame)
        times = (frame.pts - self._start, frame.duration)
        new.pts, new.duration = (round(ticks * frame.time_base / unit) for ticks in times)
        new.time_base = unit
        self._writer.mux(stream.encode(new))

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._closed = True
            if self._writer is None:
                return
            with suppress(av_module().FFmpegError):  # there is an error already, and it says more
                self._writer.close()

    def _check_time(self, frame: Frame) -> None:
        time = frame.pts * frame.time_base
        which = f"frame {frame.index} of {frame.origin or 'the source'}"
        if self._times and time <= self._times[-1]:
            raise InputError(
                f"{which} is not later than the one before it; give frames times that rise, such as pts=index,"
                " time_base=Fraction(1, 25)"
            )
        self._times.append(time)
        span, ticks = time - self._times[0], _unit(frame).denominator  # ticks a second
        if span * ticks >= 2**31:
            raise InputError(
                f"{which} comes {float(span):.0f} s after others before it, which an MP4 file with times as fine as"
                f" 1/{ticks} s cannot hold; write the parts as videos of their own"
            )

    def _open(self, frame: Frame, drawn: np.ndarray) -> None:
        av = av_module()
        unit = _unit(frame)
        self._start = 0 if frame.stamp is None else frame.pts
        # the time of the first frame is written in this scale: in milliseconds, as it would be, it is not exact
        scale = {"movie_timescale": str(unit.denominator)}
        self._writer = av.open(local_url(self._path), "w", format="mp4", options={**FRAGMENTS, **scale})
        self._threads = min(all_threads(), 1 + drawn.size // 3 // PIXELS_A_THREAD)
        self._reformatter = av.video.reformatter.VideoReformatter()
        options = {**ENCODING, "threads": str(self._threads)}
        self._stream = self._writer.add_stream("libx264", rate=frame.rate, options=options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = *drawn.shape[:2], "yuv420p"
        self._stream.codec_context.time_base = unit

    def _salvaged(self, error: Any) -> SinkFull:
        """Leaves the whole fragments in the file, and says how many frames that is."""
        frames = 0
        if self._path.exists():
            with self._path.open("rb") as file:
                head = file.read(HEAD)
            if self._writer is not None:
                with suppress(av_module().FFmpegError):  # the first error says more
                    self._writer.close()
            with self._path.open("r+b") as file:
                file.write(head)  # what has just been closed is marked as whole, and is not
                file.truncate(end_of_fragments(file))
            frames = _frames(self._path)
        self._writer = None
        return SinkFull(f"cannot write {self._shown}: {error.strerror}; free space or choose another place", frames)


def _frames(path: Path) -> int:
    if not path.stat().st_size:
        return 0
    with av_module().open(local_url(path)) as reader:
        return sum(1 for packet in reader.demux(video=0) if packet.size)


def _unit(frame: Frame) -> Fraction:
    """The time base of the file."""
    return frame.time_base if frame.time_base >= FINEST else Fraction(1, 1_000_000)


def _even(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
