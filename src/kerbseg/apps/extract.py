"""What `kerbseg extract` does: takes pictures for labeling out of videos and bags, named by their times."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.core.files import atomic_write, check_writable, remove_leftovers
from kerbseg.core.text import counted
from kerbseg.keyframes.scores import Scorer
from kerbseg.keyframes.selection import Options, Selector
from kerbseg.predict.sources import BagSource, Frame, Source

TABLE = "frames.csv"
COLUMNS = ("file", "index", "time_ns", "topic", "frame_id", "stamp_ns", "log_ns", "height", "width")
KEYFRAMES = "keyframes"
UNITS_NS = {"ms": 1_000_000, "s": 1_000_000_000, "min": 60_000_000_000}


class Choice(Protocol):
    """Chooses frames of one camera, as they come."""

    def add(self, frame: Frame) -> Iterable[Frame]: ...

    def rest(self) -> Iterable[Frame]:
        """What is still to be taken at the end."""


@dataclass
class EachTime:
    """The first frame, and then the first one in every interval from it on."""

    interval_ns: int
    _due: int | None = None

    def add(self, frame: Frame) -> Iterable[Frame]:
        if self._due is not None and frame.time_ns < self._due:
            return ()
        passed = 0 if self._due is None else (frame.time_ns - self._due) // self.interval_ns
        first = frame.time_ns if self._due is None else self._due
        self._due = first + (passed + 1) * self.interval_ns
        return (frame,)

    def rest(self) -> Iterable[Frame]:
        return ()


@dataclass
class EachNth:
    """The first frame, and every `step`th behind it."""

    step: int
    _number: int = 0

    def add(self, frame: Frame) -> Iterable[Frame]:
        taken = self._number % self.step == 0
        self._number += 1
        return (frame,) if taken else ()

    def rest(self) -> Iterable[Frame]:
        return ()


class Keyframes:
    """The sharpest and best lit frame of each window of motion, as `kerbseg keyframes` without a target."""

    def __init__(self) -> None:
        self._scorer, self._selector = Scorer(()), Selector(Options())

    def add(self, frame: Frame) -> Iterable[Frame]:
        nothing = np.zeros(frame.picture.shape[:2], np.uint8)
        scores = self._scorer.add(frame.picture, nothing, frame.time_ns)
        return [each.kept for each in self._selector.add(scores, frame)]

    def rest(self) -> Iterable[Frame]:
        return [each.kept for each in self._selector.finish()]


def parse_every(text: str) -> Callable[[], Choice]:
    """What makes the choice that a text names: 1s, 500ms, 2min; 10 for each tenth frame; keyframes.

    Raises InputError for another text.
    """
    if text == KEYFRAMES:
        return Keyframes
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|min)?", text)
    if match is not None and match[2] is not None:
        interval_ns = round(float(match[1]) * UNITS_NS[match[2]])
        if interval_ns > 0:
            return lambda: EachTime(interval_ns)
    elif match is not None and match[1].isdecimal() and int(match[1]) > 0:
        step = int(match[1])
        return lambda: EachNth(step)
    raise InputError(f"--every {text}: write a time such as 1s or 500ms, a number of frames such as 10, or {KEYFRAMES}")


@dataclass(frozen=True)
class Extracted:
    """What came of it."""

    source: str
    out: Path
    frames: int  # that were read
    files: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg extract --json` writes it."""
        return {"source": self.source, "frames": self.frames, "files": [str(each) for each in self.files]}

    def __str__(self) -> str:
        return (
            f"{counted(len(self.files), 'picture')} of {counted(self.frames, 'frame')} of {self.source} in {self.out}"
        )


def extract(
    source: Source,
    out: Path,
    every: Callable[[], Choice],
    progress: Callable[[Any], Iterable[Any]] = iter,
    on_end: Callable[[Extracted], object] = lambda extracted: None,
) -> Extracted:
    """Writes pictures of a source as PNG, named by their times in nanoseconds, and a table of them, `frames.csv`.

    Those of a bag are named by the stamps of their messages; several topics get folders of their own. Whatever ends it,
    the table lists the pictures until then, and `on_end` is called. Raises KerbsegError for a folder that has a table
    already, DataError for a source that is none, damaged or cut off.
    """
    table = out / TABLE
    if table.exists():
        raise KerbsegError(f"{out} holds pictures with a table ({TABLE}) already; name another folder: -o DIR")
    check_writable(table)
    remove_leftovers(out)
    several = isinstance(source, BagSource) and len(source.topics) > 1
    choices: dict[str, Choice] = {}
    rows: list[dict[str, Any]] = []
    frames = 0

    def take(chosen: Iterable[Frame]) -> None:
        for frame in chosen:
            folder = _topic(frame).strip("/").replace("/", "_") if several else ""
            file = Path(folder, f"{frame.time_ns:019}.png")
            with atomic_write(out / file) as temporary:
                Image.fromarray(frame.picture).save(temporary, "PNG")
            rows.append(_row(frame, file))

    try:
        for frame in progress(_Counted(source)):
            frames += 1
            topic = _topic(frame)
            if topic not in choices:
                choices[topic] = every()
            take(choices[topic].add(frame))
    finally:
        for choice in choices.values():
            take(choice.rest())
        extracted = Extracted(str(source), out, frames, tuple(out / row["file"] for row in rows))
        if rows:
            _write_table(table, sorted(rows, key=lambda row: row["index"]))
            on_end(extracted)
    if not rows:
        raise DataError(f"{source} gave no frame")
    return extracted


class _Counted:
    """Frames that say how many they are, for a progress bar."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __length_hint__(self) -> int:
        return self._source.count()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._source)


def _topic(frame: Frame) -> str:
    return "" if frame.stamp is None else frame.stamp.topic


def _row(frame: Frame, file: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"file": file.as_posix(), "index": frame.index, "time_ns": frame.time_ns}
    if frame.stamp is not None:
        row |= {
            "topic": frame.stamp.topic,
            "frame_id": frame.stamp.frame_id,
            "stamp_ns": frame.stamp.stamp_ns,
            "log_ns": frame.stamp.log_ns,
        }
    height, width = frame.picture.shape[:2]
    return row | {"height": height, "width": width}


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
