"""What came of each picture, in a line of a terminal and in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from kerbseg.core.text import printable, redact
from kerbseg.predict.shares import share_words

LINE = 80  # columns
LONGEST_NAME = 32  # columns of it


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
