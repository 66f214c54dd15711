"""What is in each frame, as JSON: the share of every class, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.shares import SHARES_END, shares_figures, shares_head
from kerbseg.predict.sinks.full import SinkFull
from kerbseg.predict.sources.frame import Frame, Source


class _Frames:
    """One line a frame, written as it comes: a camera that runs for days fills no memory."""

    def __init__(self, file: FileIO, shown: Path) -> None:
        self._file, self._shown = file, shown
        self._ends = [file.tell()]  # of the head, or of the last two frames: what fits behind one fits behind the other
        self._count = 0

    def __call__(self, frame: Frame, prediction: Prediction) -> None:
        line = shares_figures(prediction, frame.index, frame.time_ns)
        try:
            _write(self._file, f"{',' if self._count else ''}{line}")
        except OSError as error:
            self._file.seek(self._ends[0])
            self._file.truncate()  # leaves room for the end of the list
            kept = max(0, self._count - 1)
            raise SinkFull(
                f"cannot write {self._shown}: {error.strerror}; free space or choose another place", kept
            ) from error
        self._ends = [self._ends[-1], self._file.tell()]
        self._count += 1


@contextmanager
def shares_json(target: Path, source: Source, labels: LabelSet) -> Iterator[_Frames]:
    """`{"source", "labels", "frames": [{"index", "time_ns", "size", "shares": {class: 0..1}}]}`."""
    with atomic_write(target) as temporary, temporary.open("wb", buffering=0) as file:
        _write(file, shares_head(str(source), labels))
        yield _Frames(file, target)
        _write(file, SHARES_END)


def _write(file: FileIO, text: str) -> None:
    """All of it, or OSError: a disk may have room for a part."""
    rest = memoryview(text.encode())
    while rest:
        rest = rest[file.write(rest) :]
