"""Which frames of a source are looked at: each of them, each N-th one, or the newest one of a live stream."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from kerbseg.core.errors import KerbsegError
from kerbseg.predict.pipeline import SOURCE_PATIENCE_S
from kerbseg.predict.sources import Frame, Source


def checked_stride(stride: int) -> int:
    """The number. Raises KerbsegError for what is none."""
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise KerbsegError(f"stride is {stride!r}; give 1 (every frame), 2 (every second one), or more")
    return stride


def every_nth(frames: Iterable[Frame], stride: int) -> Iterator[Frame]:
    """The first frame and each N-th one after it, with their own indexes and times."""
    with _closing(iter(frames)) as items:
        for frame in islice(items, 0, None, stride):
            # the others are not looked at, so there are fewer a second
            yield replace(frame, rate=frame.rate / stride) if isinstance(frame, Frame) else frame


def check_live(source: Source) -> None:
    """Raises KerbsegError for a file, whose frames wait until they are read."""
    if source.path is not None:
        raise KerbsegError(
            f"{source} is a file, whose frames wait, so that no newest one can be told; the newest frame is taken of"
            " live streams (a camera, an address, a pipe), of files each N-th one: --stride N"
        )


@contextmanager
def _closing(items: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """Closes a source behind its frames, if it can be closed."""
    try:
        yield items
    finally:
        if hasattr(items, "close"):
            items.close()


class Newest:
    """The newest frame of a stream each time that one is asked for; frames that came before it unasked are dropped.

    The stream is read as fast as it comes, in a thread of its own. Its last frame is given too, and then the error that
    ended it, if one did.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.received = 0  # frames, in all
        self._frames = frames
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._ended = self._left = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Frame]:
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        try:
            while (frame := self._take()) is not None:
                yield frame
            if self._error is not None:
                raise self._error
        finally:
            self._left = True
            reader.join(SOURCE_PATIENCE_S)  # which may wait for a camera that is silent for ever

    def _take(self) -> Frame | None:
        """Waits for a frame and takes it; None when the stream has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            frame, self._newest = self._newest, None
            return frame

    def _read(self) -> None:
        try:
            with _closing(iter(self._frames)) as items:
                for frame in items:
                    if self._left:
                        break
                    with self._changed:
                        self._newest = frame
                        self.received += 1
                        self._changed.notify()
        except BaseException as error:  # noqa: BLE001 # not swallowed: raised where the frames are taken
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify()
