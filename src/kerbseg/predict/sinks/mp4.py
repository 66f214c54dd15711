"""An MP4 of the overlays, with the frames' own times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, UserError
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.frame import Frame, Source
from kerbseg.predict.sources.pyav import av_module


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
        self._before: Fraction | None = None
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
        time = frame.pts * frame.time_base
        if self._before is not None and time <= self._before:
            raise InputError(
                f"frame {frame.index} of {frame.origin or 'the source'} is not later than the one before it; give frames"
                " times that rise, such as pts=index, time_base=Fraction(1, 25)"
            )
        self._before = time
        if self._writer is None:
            self._open(frame, drawn)
        stream = self._stream
        new = av_module().VideoFrame.from_ndarray(drawn, format="rgb24")
        new = new.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU601")
        new.pts, new.time_base, new.duration = frame.pts, frame.time_base, frame.duration
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


def _even(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
