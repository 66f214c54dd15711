"""Videos: decoded, segmented, drawn and encoded frame by frame, in constant memory, at the same frame rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.core.files import replacing
from kerbseg.predict.draw import overlay

if TYPE_CHECKING:
    from kerbseg.predict.predictor import Predictor


def predict_video(predictor: Predictor, source: Path, target: Path) -> int:
    """Writes the overlay of a video and returns its number of frames, which is the source's; frame times are kept.

    Raises MissingExtra without PyAV, DataError for a file that is no video or is damaged.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "video") from error

    frames = 0
    try:
        with av.open(str(source)) as reader, replacing(target) as temporary:
            if not reader.streams.video:
                raise DataError(f"{source} holds no video stream")
            stream = reader.streams.video[0]
            stream.thread_type = "AUTO"
            with av.open(str(temporary), "w") as writer:
                sink = None
                for frame in reader.decode(stream):
                    picture = frame.to_ndarray(format="rgb24")
                    drawn = _even(np.asarray(overlay(picture, predictor(picture), legend=False)))
                    if sink is None:
                        sink = writer.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": "20"})
                        sink.height, sink.width, sink.pix_fmt = drawn.shape[0], drawn.shape[1], "yuv420p"
                        sink.codec_context.time_base = stream.time_base
                    new = av.VideoFrame.from_ndarray(drawn, format="rgb24")
                    new.pts, new.time_base = frame.pts, stream.time_base
                    writer.mux(sink.encode(new))
                    frames += 1
                if sink is None:
                    raise DataError(f"{source} holds no frame that can be decoded")
                writer.mux(sink.encode(None))
    except av.FFmpegError as error:
        raise DataError(
            f"{source} cannot be read as a video after frame {frames} ({error}); it is damaged or none"
        ) from error
    return frames


def _even(picture: np.ndarray) -> np.ndarray:
    """The picture with its last row or column repeated where a side is odd, which the encoder cannot take."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
