"""What came of each picture and video, in a line of a terminal and in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from kerbseg.core.text import counted, printable, redact
from kerbseg.predict.shares import share_words
from kerbseg.predict.temporal.vote import delay

if TYPE_CHECKING:
    from kerbseg.predict.temporal.flicker import Flicker

LINE = 80  # columns
LONGEST_NAME = 32  # columns of it
SHARES_COLUMNS = 50  # of a line, for the largest classes of a video


@dataclass(frozen=True)
class PictureReport:
    """What came of one picture."""

    source: str
    name: str  # of the picture, with its subfolder where folders are mirrored
    targets: tuple[Path, ...]  # one for each sink
    size: tuple[int, int]  # height, width
    shares: Mapping[str, float]  # of every class, the largest first
    ms: float  # of the prediction, without reading and writing

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg predict --json` writes it."""
        return {
            "input": redact(self.source),
            "files": [str(target) for target in self.targets],
            "size": list(self.size),
            "shares": dict(self.shares),
            "ms": self.ms,
        }

    @property
    def short_name(self) -> str:
        """The name as a line has it."""
        return shortened(printable(redact(self.name)), LONGEST_NAME)

    def line(self, columns: int = LINE, name_columns: int = 0) -> str:
        """Its name (filled up to so many columns), height x width, largest shares, and time."""
        name = self.short_name
        begin = f"{name}{' ' * (name_columns - cell_len(name))}  {self.size[0]}x{self.size[1]}"
        end = milliseconds(self.ms)
        return f"{begin}  {share_words(self.shares, columns - cell_len(begin) - len(end) - 4)}  {end}"

    def __str__(self) -> str:
        return self.line()


@dataclass(frozen=True)
class VideoReport:
    """What came of one video, whole or not."""

    source: str
    targets: tuple[Path, ...]  # one for each sink
    frames: int
    elapsed_s: float
    whole: bool  # False: damaged, cut off, or interrupted
    smooth: float | None
    flicker: Flicker | None
    size: tuple[int, int] | None = None  # height, width of the first frame
    shares: Mapping[str, float] = field(default_factory=dict)  # of every class in all frames, the largest first
    stride: int = 1  # each so many frames one was looked at
    received: int | None = None  # frames of a stream of which only the newest were looked at, and the others dropped

    @property
    def dropped(self) -> int | None:
        """Frames that came while another one was worked on; None where every frame was waited for."""
        return None if self.received is None else self.received - self.frames

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg predict --json` writes it."""
        return {
            "source": self.source,
            "target": str(self.targets[0]),
            "targets": [str(target) for target in self.targets],
            "frames": self.frames,
            "frames_per_second": self.frames / self.elapsed_s if self.elapsed_s else None,
            "size": None if self.size is None else list(self.size),
            "shares": dict(self.shares),
            "whole": self.whole,
            "smooth": None if self.smooth is None else {"memory": self.smooth, "delay_frames": delay(self.smooth)},
            "flicker": None if self.flicker is None else self.flicker.to_dict(),
            "stride": self.stride,
            "newest": None if self.received is None else {"received": self.received, "dropped": self.dropped},
        }

    def __str__(self) -> str:
        speed = f"{self.frames / self.elapsed_s:.1f} a second" if self.elapsed_s else "at once"
        measured = "" if self.flicker is None else f"; {self.flicker}"
        shares = f"; {share_words(self.shares, SHARES_COLUMNS)}" if any(self.shares.values()) else ""
        dropped = "" if self.received is None else f" of {self.received} ({self.dropped} dropped)"
        frames = counted(self.frames, "frame")
        return f"{listed_paths(self.targets)}: {frames}{dropped}, {speed}{shares}{measured}"


def listed_paths(paths: Iterable[Path]) -> str:
    """Files as a line names them."""
    return ", ".join(map(str, paths))


def shortened(text: str, columns: int) -> str:
    """The text, without its beginning where it is wider: frames of one drive differ at the end of their names."""
    if cell_len(text) <= columns:
        return text
    while cell_len(text) >= columns:
        text = text[1:]
    return f"…{text}"


def milliseconds(ms: float) -> str:
    """A time as people read it."""
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
