"""Frames of a stream: upright RGB pictures with their exact times, one at a time."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from kerbseg.core.errors import DataError, KerbsegWarning, MissingExtra
from kerbseg.predict.sources.containers import truncated_bytes
from kerbseg.predict.sources.frame import Frame, Source
from kerbseg.predict.sources.look import Look
from kerbseg.predict.sources.streams import Stream

JOINED = 2
"""A reader marks a packet or two before the one with which the second of two joined streams begins."""

MID_FRAME = "it ends, or is damaged, in mid-frame"

ONE_EACH = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "rawvideo")
"""Decoders, as PyAV calls them, that give a frame for each packet; others have some that are not shown."""

EMPTY = 8
"""Bytes of a packet that only says that nothing changed."""

JPEG = b"\xff\xd8\xff"
"""How a JPEG picture begins."""

BACK = 2
"""Steps that a time may go back without being a new beginning: a clock that is not exact."""

LOST_S, LOST_FRAMES = 1.0, 2.5
"""A video that ends earlier than it says, by more than this or so many of its longest frames, is damaged: less may be
the last frame's own time."""

FORMATS = {
    "mov,mp4,m4a,3gp,3g2,mj2": ".mp4 .mov .m4v .3gp .3g2 .f4v .qt",
    "matroska,webm": ".mkv .webm",
    "avi": ".avi .divx",
    "mpegts": ".ts .m2ts .mts .m2t",
    "mpeg": ".mpg .mpeg .vob .mod .ps",
    "mpegvideo": ".m1v .m2v .mpv",
    "asf": ".wmv .asf",
    "flv": ".flv",
    "ogg": ".ogv .ogm",
    "mxf": ".mxf",
    "nut": ".nut",
    "dv": ".dv",
    "ivf": ".ivf",
    "h264": ".h264 .264 .avc",
    "hevc": ".h265 .265 .hevc",
    "m4v": ".m4e .mpeg4",
    "obu": ".obu",
    "mjpeg": ".mjpeg .mjpg",
    "yuv4mpegpipe": ".y4m",
    "jpeg_pipe": "",  # what MJPEG without a container is taken for
}
"""Formats as PyAV calls them, and the suffixes of their files. No other is opened unless it is asked for: among others
are playlists, which open addresses, and readers that make a video of any text."""

VIDEO_SUFFIXES = frozenset(" ".join(FORMATS.values()).split())

WHOLE = "if it is an MP4, its index stands at its end: write it with -movflags +faststart, or send .mkv or .ts"


def av_module() -> ModuleType:
    """PyAV. Raises MissingExtra where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra("av", "video") from error
    return av


def stream_source(stream: Stream) -> Source:
    """A video file, camera, pipe or address as a source."""
    count = (lambda: frame_count(stream)) if stream.path else (lambda: 0)
    return Source(stream.name, lambda: frames(stream), str(stream), "video", stream.path, count)


def frames(stream: Stream) -> Iterator[Frame]:
    """The frames of a stream, as they come.

    Raises DataError for a stream that cannot be opened, and after the last whole frame where it is damaged or cut off;
    a live one goes on with the next frame instead.
    """
    av = av_module()
    number, hint = 0, "is it whole?"
    try:
        with _open(stream) as reader:
            if stream.path is None and "mov" in reader.format.name:
                hint = WHOLE
            video = reader.streams.video[0]
            video.thread_type = "SLICE"  # with a thread for each frame, damage is noted now and then only
            rate = Fraction(video.average_rate or video.guessed_rate or 25)
            clock = _Clock(1 / (rate * video.time_base), stream.live)
            look = Look(video.sample_aspect_ratio, av.video.reformatter.VideoReformatter())
            announced_s, end_s, longest_s = _announced_s(reader, video), 0.0, float(1 / rate)
            started_s = None
            for frame in _decoded(reader, video, stream.live):
                time_s = float((frame.pts or 0) * video.time_base)
                longest_s = max(longest_s, time_s - (time_s if started_s is None else started_s))
                started_s, end_s = time_s, time_s + float((frame.duration or 0) * video.time_base)
                yield Frame(
                    picture=look(frame),
                    index=number,
                    pts=clock(frame.pts),
                    time_base=video.time_base,
                    duration=frame.duration or 0,
                    rate=rate,
                    origin=str(stream),
                )
                number += 1
    except av.FFmpegError as error:
        more = "" if number else f"; {hint}"
        raise DataError(f"{stream} is damaged after frame {number} ({_reason(error)}){more}") from error
    lacking = truncated_bytes(stream.path) if stream.path else 0
    if lacking:
        raise DataError(f"{stream} is cut off after frame {number} ({lacking} bytes lack at its end)")
    if number and announced_s - end_s > min(LOST_S, LOST_FRAMES * longest_s) and not stream.live:
        raise DataError(f"{stream} is damaged after frame {number} (it ends {announced_s - end_s:.1f} s early)")
    if not number:
        raise DataError(f"{stream} holds no frame that can be decoded; {hint}")


def _open(stream: Stream) -> Any:
    av = av_module()
    options = dict(stream.options)
    if stream.format is None and not stream.live:
        options["format_whitelist"] = ",".join(FORMATS)
    try:
        reader = av.open(stream.opened, format=stream.format, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise DataError(f"{stream} cannot be read as a video ({_reason(error)}); {_remedy(stream, error)}") from error
    except ValueError as error:  # PyAV's own, for a format that its build does not know
        raise DataError(f"{stream} cannot be read as a video ({error}); this build of PyAV does not know it") from error
    if not reader.streams.video:
        reader.close()
        raise DataError(f"{stream} holds no video stream; is it a sound recording?")
    return reader


def _reason(error: Any) -> str:
    return str(error.strerror or type(error).__name__)


def _remedy(stream: Stream, error: Any) -> str:
    av = av_module()
    if stream.live and stream.format:
        return "is the camera there, and free?"
    if stream.live and not isinstance(error, av.InvalidDataError):
        return "check the address, and that something sends there"
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return "check the file and its rights"
    if stream.path is None and not stream.live:
        return f"it is damaged or none; {WHOLE}"
    return "it is damaged or none"


def _announced_s(reader: Any, video: Any) -> float:
    """How long a Matroska file says its video is; 0 for other formats, whose readers notice a loss.

    Behind damage that reader looks for the next cluster, and takes the end of the file for the end of the video.
    """
    if "matroska" not in reader.format.name:
        return 0.0
    duration = re.match(r"(\d+):(\d+):(\d+(?:\.\d+)?)", video.metadata.get("DURATION", ""))
    if duration is None:
        return 0.0
    return 3600 * int(duration[1]) + 60 * int(duration[2]) + float(duration[3])


def _decoded(reader: Any, video: Any, live: bool) -> Iterator[Any]:
    """PyAV's frames up to the first damage; of a live stream all that are whole.

    A reader marks what stands where two transport streams were joined as damage, too. There every frame is whole, and
    the next ones begin anew. Before the first whole frame there may be others: a recording that began in mid-stream, or
    a beginning that is damaged. How many, and how many a decoder gave no frame of, is told at the end.
    """
    av = av_module()
    marked, given, came, interlaced = None, 0, 0, False
    for n, packet in enumerate(reader.demux(video)):
        if marked is not None and (packet.is_keyframe or n - marked > JOINED):
            if not packet.is_keyframe:
                raise av.InvalidDataError(0, MID_FRAME)
            marked = None
        if packet.is_corrupt and not live and marked is None:
            if "mpegts" not in reader.format.name:
                yield from video.codec_context.decode(None)  # what the decoder still holds is whole
                raise av.InvalidDataError(0, MID_FRAME)
            marked = n
        given += _pictures_in(packet, reader)
        try:
            decoded = packet.decode()
        except av.InvalidDataError:
            if not live:
                raise
            continue
        for frame in decoded:
            if not frame.is_corrupt:
                yield frame
                came, interlaced = came + 1, interlaced or frame.interlaced_frame
            elif came and not live:
                raise av.InvalidDataError(0, "a frame is damaged")
    if marked is not None:
        raise av.InvalidDataError(0, MID_FRAME)
    one_each = video.codec_context.name in ONE_EACH and not interlaced  # an interlaced frame may have two packets
    if 0 < came < given and one_each and not live:
        shown = Path(reader.name.removeprefix("file:")).name
        message = f"{shown}: {given - came} of {given} frames cannot be decoded, and are left out"
        warnings.warn(KerbsegWarning(message), stacklevel=2)


def _pictures_in(packet: Any, reader: Any) -> int:
    """How many frames a packet should give."""
    if packet.size <= EMPTY or packet.is_discard:
        return 0
    if reader.format.name in ("mjpeg", "jpeg_pipe"):  # which may not see where the next picture begins
        return max(1, bytes(packet).count(JPEG))
    return 1


class _Clock:
    """Times that rise: as the source has them, one step after the last where it has none or begins anew.

    A source that begins before zero, or that is live and counts from when the machine was started, begins at zero.
    """

    def __init__(self, step: Fraction, live: bool) -> None:
        self._step, self._live = max(1, round(step)), live
        self._shift = 0
        self._last: int | None = None

    def __call__(self, pts: int | None) -> int:
        if self._last is not None and pts is not None and self._last - (pts + self._shift) > BACK * self._step:
            self._shift = self._last + self._step - pts  # two recordings in one file: the second counts anew
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


def is_video(stream: Stream) -> bool:
    """Whether a file can be opened as a video."""
    try:
        _open(stream).close()
    except (DataError, MissingExtra):
        return False
    return True


def frame_count(stream: Stream) -> int:
    """The number of frames that a file announces, for a progress bar; 1 where it says nothing or is none."""
    av = av_module()
    try:
        with _open(stream) as reader:
            video = reader.streams.video[0]
            count = video.frames
            if not count and video.average_rate and reader.duration:
                count = round(reader.duration / av.time_base * video.average_rate)
            return count if 1 <= count <= os.path.getsize(stream.url) else 1  # each frame has a byte at least
    except (av.FFmpegError, DataError, OSError):  # said when its turn comes, so that the files before it are finished
        return 1
