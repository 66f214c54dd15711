"""Frames of a stream: upright RGB pictures with their exact times, one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.predict.sources.containers import truncated_bytes
from kerbseg.predict.sources.streams import Stream

LOST_S = 1.0
"""A video that ends earlier than it says by more than this is damaged: less may be the last frame's own time."""


@dataclass(frozen=True)
class Frame:
    """A picture, shown from `pts * time_base` seconds on."""

    picture: UInt8[np.ndarray, "h w 3"]
    pts: int
    time_base: Fraction
    duration: int  # in time_base; 0 where nothing is known
    rate: Fraction  # frames a second on average, as the source announces it


def av_module() -> ModuleType:
    """PyAV. Raises MissingExtra where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "video") from error
    return av


def frames(stream: Stream) -> Iterator[Frame]:
    """The frames of a stream, as they come.

    Raises DataError for a stream that cannot be opened, and after the last whole frame where it is damaged or cut off;
    a live one goes on with the next frame instead.
    """
    av = av_module()
    number = 0
    try:
        with _open(stream) as reader:
            video = reader.streams.video[0]
            video.thread_type = "AUTO"
            rate = Fraction(video.average_rate or video.guessed_rate or 25)
            clock = _Clock(1 / (rate * video.time_base), stream.live)
            announced_s, end_s = _announced_s(reader, video), 0.0
            for frame in _decoded(reader, video, stream.live):
                end_s = float(((frame.pts or 0) + (frame.duration or 0)) * video.time_base)
                yield Frame(_upright(frame), clock(frame.pts), video.time_base, frame.duration or 0, rate)
                number += 1
    except av.FFmpegError as error:
        raise DataError(f"{stream} is damaged after frame {number} ({error.strerror})") from error
    lacking = truncated_bytes(stream.path) if stream.path else 0
    if lacking:
        raise DataError(f"{stream} is cut off after frame {number} ({lacking} bytes lack at its end)")
    if number and announced_s - end_s > LOST_S and not stream.live:
        raise DataError(f"{stream} is damaged after frame {number} (it ends {announced_s - end_s:.1f} s early)")
    if not number:
        raise DataError(f"{stream} holds no frame that can be decoded; is it whole?")


def _open(stream: Stream) -> Any:
    av = av_module()
    try:
        reader = av.open(stream.url, format=stream.format, options=dict(stream.options))
    except av.FFmpegError as error:
        remedy = "is the camera there, and free?" if stream.format and stream.live else "it is damaged or none"
        raise DataError(f"{stream} cannot be read as a video ({error.strerror}); {remedy}") from error
    except ValueError as error:  # PyAV's own, for a format that its build does not know
        raise DataError(f"{stream} cannot be read as a video ({error}); this build of PyAV does not know it") from error
    if not reader.streams.video:
        reader.close()
        raise DataError(f"{stream} holds no video stream; is it a sound recording?")
    return reader


def _announced_s(reader: Any, video: Any) -> float:
    """How long a Matroska file says its video is; 0 for other formats, whose readers notice a loss.

    Behind damage that reader looks for the next cluster, and takes the end of the file for the end of the video.
    """
    if "matroska" not in reader.format.name:
        return 0.0
    told = re.match(r"(\d+):(\d+):(\d+(?:\.\d+)?)", video.metadata.get("DURATION", ""))
    if told is None:
        return 0.0
    return 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3])


def _decoded(reader: Any, video: Any, live: bool) -> Iterator[Any]:
    """PyAV's frames up to the first damage; of a live stream all that are whole."""
    av = av_module()
    started = False
    for packet in reader.demux(video):
        if packet.is_corrupt and not live:
            yield from video.codec_context.decode(None)  # what the decoder still holds is whole
            raise av.InvalidDataError(0, "it ends, or is damaged, in mid-frame")
        try:
            found = packet.decode()
        except av.InvalidDataError:
            if not live:
                raise
            continue
        for frame in found:
            if not frame.is_corrupt:
                yield frame
                started = True
            elif started and not live:  # before the first whole one: a recording that began in mid-stream
                raise av.InvalidDataError(0, "a frame is damaged")


class _Clock:
    """Times that rise: as the source has them, one step after the last where it has none or goes back.

    A source that begins before zero, or that is live and counts from when the machine was started, begins at zero.
    """

    def __init__(self, step: Fraction, live: bool) -> None:
        self._step, self._live = max(1, round(step)), live
        self._shift = 0
        self._last: int | None = None

    def __call__(self, pts: int | None) -> int:
        if self._last is None:
            start = pts or 0
            self._shift = -start if self._live or start < 0 else 0
            self._last = start + self._shift
            return self._last
        if pts is None:
            self._last += self._step
        else:
            self._last = max(pts + self._shift, self._last + 1)
        return self._last


def _upright(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a frame, turned as the camera noted: phones film upright by a note beside lying frames."""
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))


def frame_count(stream: Stream) -> int:
    """The number of frames that a file announces, for a progress bar; 1 where it says nothing or is none."""
    av = av_module()
    try:
        with av.open(stream.url) as reader:
            video = reader.streams.video[0]
            if not video.frames and video.average_rate and reader.duration:
                return max(1, round(reader.duration / av.time_base * video.average_rate))
            return max(1, video.frames)
    except (av.FFmpegError, IndexError):  # said when its turn comes, so that the files before it are finished
        return 1
