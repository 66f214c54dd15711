"""What a sink says whose file can take no more."""

from __future__ import annotations

from kerbseg.core.errors import KerbsegError


class SinkFull(KerbsegError):
    """A file that can take no more, though what it has is whole; `frames` says how many it keeps."""

    def __init__(self, message: str, frames: int) -> None:
        super().__init__(message)
        self.frames = frames
