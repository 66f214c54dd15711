"""What a video comes from: a file, a camera, a pipe or an address."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.text import ADDRESS, redact
from kerbseg.data.pictures import SUFFIXES

STANDARD_INPUT = ("-", "/dev/stdin")
RAW_FORMAT = "rawvideo"  # as PyAV calls it
RAW = re.compile(r"(?P<height>\d+)x(?P<width>\d+)@(?P<rate>\d+(\.\d+|/\d+)?)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Stream:
    """A video as PyAV opens it."""

    name: str  # the beginning of its results' names
    url: str
    format: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    live: bool = False  # a picture that is lost cannot be had again, and the times count from the first one

    @property
    def path(self) -> Path | None:
        """The file, where it is one whose end is known."""
        return None if self.format or self.live or not Path(self.url).is_file() else Path(self.url)

    @property
    def opened(self) -> str:
        """What PyAV is given; a name with a colon would be an address to it."""
        return local_url(self.url) if self.format is None and os.path.exists(self.url) else self.url

    def __str__(self) -> str:
        return "the standard input" if self.url == "pipe:0" else redact(self.url)


@dataclass(frozen=True)
class RawFrames:
    """Frames without a container: RGB, 8 bits each, row by row."""

    height: int
    width: int
    rate: Fraction  # frames a second

    @classmethod
    def parse(cls, text: str) -> RawFrames:
        """Of `HEIGHTxWIDTH@RATE`, such as 360x480@25 or 720x1280@30000/1001. Raises KerbsegError for anything else."""
        parts = RAW.fullmatch(text)
        if parts is None or not _positive(parts["rate"]):
            raise KerbsegError(
                f"raw frames {text!r} are no HEIGHTxWIDTH@RATE such as 360x480@25 or 720x1280@30000/1001"
            )
        height, width = int(parts["height"]), int(parts["width"])
        if not height or not width:
            raise KerbsegError(f"raw frames of {height}x{width} (HxW) have no pixels")
        return cls(height, width, Fraction(parts["rate"]))

    def stream(self, name: str, url: str) -> Stream:
        """Frames like these, read from an address."""
        size, rate = f"{self.width}x{self.height}", f"{self.rate.numerator}/{self.rate.denominator}"
        options = (("video_size", size), ("pixel_format", "rgb24"), ("framerate", rate))
        return Stream(name, url, RAW_FORMAT, options)


def local_url(path: str | Path) -> str:
    """A file's name as PyAV takes any: of the protocol of files, so that no part of it is taken for another one."""
    return f"file:{os.path.abspath(path)}"


def _positive(rate: str) -> bool:
    numerator, _, denominator = rate.partition("/")
    return float(numerator) > 0 and (not denominator or int(denominator) > 0)


def takes_raw(given: str | Path) -> bool:
    """Whether an input can carry frames without a container."""
    return str(given) in STANDARD_INPUT or Path(given).is_fifo()


def as_stream(given: str | Path, raw: RawFrames | None = None) -> Stream | None:
    """The stream that an input names: `-`, a camera's number or device, a named pipe, an address; None for others.

    A file or folder of that name goes before a camera's number.
    """
    text, path = str(given), Path(given)
    if text in STANDARD_INPUT:
        return Stream("stdin", "pipe:0") if raw is None else raw.stream("stdin", "pipe:0")
    if ADDRESS.match(text):
        return Stream(_name_of(text), text, live=True)
    if path.is_socket():
        raise DataError(f"{given} is a socket, which has no name that a video can be read by; give its address")
    if path.is_char_device():
        return _camera(text)
    if path.is_fifo():
        if path.suffix.lower() in SUFFIXES:  # it may wait for ever for someone to write to it
            raise DataError(f"{given} is a named pipe; pictures are read from files, and pipes bring videos")
        return Stream(path.stem, text) if raw is None else raw.stream(path.stem, text)
    if text.isascii() and text.isdigit() and not path.exists():
        return _camera(text if sys.platform == "darwin" else f"/dev/video{int(text)}")
    return None


def _name_of(address: str) -> str:
    try:
        return Path(urlsplit(address).path).stem or "stream"
    except ValueError as error:
        raise DataError(f"{redact(address)} is no address ({error}); check it") from error


def _camera(device: str) -> Stream:
    if sys.platform not in ("linux", "darwin"):
        raise KerbsegError(f"cameras are read on Linux and macOS only; pipe the pictures of {device} in: ... | kerbseg")
    kind = "v4l2" if sys.platform == "linux" else "avfoundation"
    return Stream(f"camera{device}" if device.isdigit() else Path(device).stem, device, kind, live=True)
