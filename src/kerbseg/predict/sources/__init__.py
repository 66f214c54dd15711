"""Where frames come from: the one table of inputs that predict knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from kerbseg.core.errors import DataError, InputError
from kerbseg.data.pictures import SUFFIXES, is_animation
from kerbseg.predict.sources.animations import animation_source
from kerbseg.predict.sources.bags import BAG_SUFFIXES, BagSource, find_bag
from kerbseg.predict.sources.frame import Frame, Source, Stamp
from kerbseg.predict.sources.pictures import failing_source, picture_source
from kerbseg.predict.sources.pyav import VIDEO_SUFFIXES, is_video, stream_source
from kerbseg.predict.sources.streams import RawFrames, Stream, as_stream

__all__ = [
    "SOURCES",
    "BagSource",
    "Frame",
    "RawFrames",
    "Source",
    "SourceKind",
    "Stamp",
    "as_source",
    "find_source",
    "input_suffixes",
    "open_source",
]


@dataclass(frozen=True)
class SourceKind:
    """One kind of input: how it is known by its look, and opened."""

    open: Callable[[str, RawFrames | None], Source | None]  # None: it is none of ours
    suffixes: frozenset[str] = frozenset()  # of the files that are taken from a folder or by a glob


def _stream(given: str, raw: RawFrames | None) -> Source | None:
    stream = as_stream(given, raw)
    return None if stream is None else stream_source(stream)


def _video_file(given: str, raw: RawFrames | None) -> Source | None:
    path = Path(given)
    if path.suffix.lower() not in VIDEO_SUFFIXES or not path.is_file():
        return None
    return stream_source(Stream(path.stem, given))


def _bag(given: str, raw: RawFrames | None) -> Source | None:
    return find_bag(given)


def _picture_file(given: str, raw: RawFrames | None) -> Source | None:
    path = Path(given)
    return _pictures(path) if path.suffix.lower() in SUFFIXES and path.is_file() else None


def _pictures(path: Path) -> Source:
    """A picture, or an animation by what is in it."""
    try:
        animated = is_animation(path)
    except DataError:  # said when its turn comes, so that the files before it are finished
        animated = False
    return animation_source(path) if animated else picture_source(path)


def _unknown_file(path: Path) -> Source:
    """A file whose suffix says nothing: what it is by its first bytes."""
    try:
        return animation_source(path) if is_animation(path) else picture_source(path)
    except DataError as error:
        stream = Stream(path.stem, str(path))
        if is_video(stream):
            return stream_source(stream)
        return failing_source(path, DataError(f"{error}; nor is it a video that can be read"))


SOURCES: dict[str, SourceKind] = {
    "stream": SourceKind(_stream),
    "bag": SourceKind(_bag, BAG_SUFFIXES),
    "video": SourceKind(_video_file, VIDEO_SUFFIXES),
    "picture": SourceKind(_picture_file, SUFFIXES),
}
"""Inputs by what they look like; the first kind that knows one opens it. A new kind is one entry."""


def input_suffixes() -> frozenset[str]:
    """The suffixes of files that some kind of source opens."""
    return frozenset().union(*(kind.suffixes for kind in SOURCES.values()))


def find_source(given: str | Path, raw: RawFrames | None = None, topics: Collection[str] = ()) -> Source | None:
    """The source that an input names, or None: the first kind that knows it; a file that none knows is looked into.

    Of a bag it is the pictures of `topics`, or of the only topic that has some. Raises DataError where the system does
    not let us look at it, and for a bag that has not those topics.
    """
    try:
        for kind in SOURCES.values():
            source = kind.open(str(given), raw)
            if source is not None:
                return source.of_topics(topics) if isinstance(source, BagSource) else source
        path = Path(given)
        return _unknown_file(path) if path.is_file() else None
    except OSError as error:
        raise DataError(f"{given} cannot be opened: {error.strerror or error}; check its name and rights") from error


def open_source(given: str | Path, raw: RawFrames | None = None, topics: Collection[str] = ()) -> Source:
    """The source that an input names. Raises DataError where it names none."""
    source = find_source(given, raw, topics)
    if source is None:
        raise DataError(f"{given} is no picture, video, bag or stream; check the path")
    return source


def as_source(
    given: str | Path | int | Source | Iterable[Frame], raw: RawFrames | None = None, topics: Collection[str] = ()
) -> Source:
    """The source of a path, an address, a camera's number, or of frames that the caller makes."""
    if isinstance(given, str | Path | int):
        return open_source(given if isinstance(given, Path) else str(given), raw, topics)
    if isinstance(given, Source):
        return given
    if not isinstance(given, Iterable):
        raise InputError(
            f"a video is a path, an address, a camera's number or an iterable of Frame, found {type(given).__name__};"
            " the source comes first, the predictor second"
        )
    return Source("frames", lambda: iter(given))
