"""What is in each frame, as JSON: the share of every class, frame by frame."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.frame import Frame, Source


class _Frames:
    """One line a frame, written as it comes: a camera that runs for days fills no memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._count = 0

    def __call__(self, frame: Frame, prediction: Prediction) -> None:
        shares = prediction.shares()
        figures: dict[str, Any] = {
            "index": frame.index,
            "time_ns": frame.time_ns,
            "shares": {name: shares[name] for name in prediction.names},
        }
        self._file.write(f"{',' if self._count else ''}\n  {json.dumps(figures)}")
        self._count += 1


@contextmanager
def shares_json(target: Path, source: Source, labels: LabelSet) -> Iterator[_Frames]:
    """`{"source", "labels", "frames": [{"index", "time_ns", "shares": {class: 0..1}}]}`."""
    head = f'{{"source": {json.dumps(str(source))}, "labels": {json.dumps(labels.name)}, "frames": ['
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        yield _Frames(file)
        file.write("\n]}\n")
