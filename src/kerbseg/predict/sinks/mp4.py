"""An MP4 of the overlays, with the frames' own times."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.frame import Frame, Source
from kerbseg.predict.sources.pyav import av_module

FINEST = Fraction(1, 10_000_000)
"""A time base that is finer becomes microseconds: MP4 has 31 bits for the time between frames."""

REORDERED = 5
"""Frames that the encoder may look at together: the times of these must not lie farther apart than that."""


@contextmanager
def overlay_mp4(target: Path, source: Source, labels: LabelSet) -> Iterator[Callable[[Frame, Prediction], None]]:
    """The frames under their classes' colors; of a source that failed before its first frame nothing is left."""
    with atomic_write(target) as temporary, closing(VideoWriter(temporary, target)) as writer:
        yield lambda frame, prediction: writer.add(frame, prediction.blended)
        writer.finish()


class VideoWriter:
    """An MP4 of H.264 whose frames have the times of their sources; the file begins with the first frame."""

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        self._path, self._shown = path, shown or path  # a temporary name means nothing to a user
        self._writer: Any = None
        self._stream: Any = None
        self._times: deque[Fraction] = deque(maxlen=REORDERED)
        self._closed = False
        self._lock = threading.Lock()  # a second Ctrl-C closes the file while a stage may be writing to it

    def add(self, frame: Frame, drawn: UInt8[np.ndarray, "h w 3"]) -> None:
        """Encodes what was drawn of a frame; one of another size than the first is made the first one's size.

        Raises InputError for a frame that is not later than the one before it.
        """
        av = av_module()
        try:
            with self._lock:
                if not self._closed:
                    self._encode(frame, _even(drawn))
        except av.FFmpegError as error:
            raise self._unwritable(error) from error

    def _encode(self, frame: Frame, drawn: UInt8[np.ndarray, "h w 3"]) -> None:
        self._check_time(frame)
        if self._writer is None:
            self._open(frame, drawn)
        stream = self._stream
        new = av_module().VideoFrame.from_ndarray(drawn, format="rgb24")
        new = new.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU601")
        unit = _unit(frame)
        new.pts, new.duration = (round(ticks * frame.time_base / unit) for ticks in (frame.pts, frame.duration))
        new.time_base = unit
        self._writer.mux(stream.encode(new))

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
        # the time of the first frame is written in this scale: in milliseconds, as it would be, it is not exact
        scale = {"movie_timescale": str(unit.denominator)}
        self._writer = av.open(str(self._path), "w", options=scale)
        self._stream = self._writer.add_stream(
            "libx264", rate=frame.rate, options={"crf": "20", "preset": "veryfast", "colorspace": "smpte170m"}
        )
        self._stream.height, self._stream.width, self._stream.pix_fmt = *drawn.shape[:2], "yuv420p"
        self._stream.codec_context.time_base = unit

    def _unwritable(self, error: Any) -> KerbsegError:
        return KerbsegError(f"cannot write {self._shown}: {error.strerror}; free space or choose another place")


def _unit(frame: Frame) -> Fraction:
    """The time base of the file."""
    return frame.time_base if frame.time_base >= FINEST else Fraction(1, 1_000_000)


def _even(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
