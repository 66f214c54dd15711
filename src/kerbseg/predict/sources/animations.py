"""Animated GIF, WebP and PNG files as videos."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.pictures import read_animation
from kerbseg.predict.sources.containers import gif_frames
from kerbseg.predict.sources.frame import Frame, Source

UNTOLD_MS = 100.0
"""How long a frame is shown that does not say it, as browsers do."""


def animation_source(path: Path) -> Source:
    """An animation; it is read when its turn comes."""
    return Source(path.stem, lambda: frames(path), str(path), "video", path)


def frames(path: Path) -> Iterator[Frame]:
    """The frames, in milliseconds. Raises DataError after the last whole one where the file is damaged or cut off."""
    index, time_ms = 0, 0.0
    for picture, shown_ms in read_animation(path):
        end_ms = time_ms + (shown_ms or UNTOLD_MS)
        pts = round(time_ms)
        yield Frame(picture, index, pts, Fraction(1, 1000), round(end_ms) - pts, Fraction(10), str(path))
        index, time_ms = index + 1, end_ms
    held = gif_frames(path)
    if held is not None and held != index:
        raise DataError(f"{path} is damaged or cut off after frame {index}; replace it")
