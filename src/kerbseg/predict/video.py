"""Videos: decoded, segmented, drawn and encoded frame by frame, in constant memory, at the same frame rate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.core.files import replacing
from kerbseg.predict.draw import overlay

if TYPE_CHECKING:
    from kerbseg.predict.predictor import Predictor


def video_steps(predictor: Predictor, source: Path, target: Path) -> Iterator[None]:
    """Writes the overlay of a video as it is iterated, one step a frame; the times of frames are the source's.

    Raises MissingExtra without PyAV, DataError for a file that is no video or is damaged.
    """
    av = _av()
    frames = 0
    try:
        with av.open(str(source)) as reader, replacing(target) as temporary:
            if not reader.streams.video:
                raise DataError(f"{source} holds no video stream; is it a sound recording?")
            stream = reader.streams.video[0]
            stream.thread_type = "AUTO"
            with av.open(str(temporary), "w") as writer:
                sink = None
                for frame in reader.decode(stream):
                    picture = _upright(frame)
                    drawn = _even(np.asarray(overlay(picture, predictor(picture), legend=False)))
                    sink = sink or _sink(writer, stream, drawn)
                    new = av.VideoFrame.from_ndarray(drawn, format="rgb24")
                    new.pts, new.time_base = frame.pts, stream.time_base
                    writer.mux(sink.encode(new))
                    frames += 1
                    yield
                if sink is None:
                    raise DataError(f"{source} holds no frame that can be decoded; is it whole?")
                writer.mux(sink.encode(None))
    except av.FFmpegError as error:
        raise DataError(
            f"{source} cannot be read as a video after frame {frames} ({error}); it is damaged or none"
        ) from error


def frame_count(source: Path) -> int:
    """The number of frames that a video announces, for a progress bar; 1 where it says nothing or is none."""
    av = _av()
    try:
        with av.open(str(source)) as reader:
            stream = reader.streams.video[0]
            if not stream.frames and stream.average_rate and reader.duration:
                return max(1, round(reader.duration / av.time_base * stream.average_rate))
            return max(1, stream.frames)
    except (av.FFmpegError, IndexError):  # said when its turn comes, so that the files before it are finished
        return 1


def _av() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "video") from error
    return av


def _sink(writer: Any, stream: Any, drawn: UInt8[np.ndarray, "h w 3"]) -> Any:
    """A stream of H.264 for frames like `drawn`, in the time base of the source."""
    sink = writer.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": "20"})
    sink.height, sink.width, sink.pix_fmt = drawn.shape[0], drawn.shape[1], "yuv420p"
    sink.codec_context.time_base = stream.time_base
    return sink


def _upright(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a frame, turned as the camera noted: phones film upright by a note beside lying frames."""
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def _even(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
