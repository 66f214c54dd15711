"""Picture files as sources of one frame each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.pictures import read_rgb
from kerbseg.predict.sources.frame import Frame, Source


def picture_source(path: Path) -> Source:
    """A picture file; it is read when its turn comes, so that the files before a damaged one are finished."""

    def frames() -> Iterator[Frame]:
        yield Frame(read_rgb(path), origin=str(path))

    return Source(path.stem, frames, str(path), "picture", path, count=lambda: 1)


def failing_source(path: Path, error: DataError) -> Source:
    """A file that is known to be none of ours, which is said when its turn comes."""

    def frames() -> Iterator[Frame]:
        raise error
        yield

    return Source(path.stem, frames, str(path), "picture", path, count=lambda: 1)
