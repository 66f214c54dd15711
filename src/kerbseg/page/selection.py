"""What was given to a page, and which of it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from kerbseg.page.looking import Given, pair


@dataclass(frozen=True)
class Selection:
    """Files as a browser sent them, in whichever order pictures and masks came, and the number of the chosen picture.

    The page keeps one for each browser, on its own side: an answer that comes late changes nothing that came after it.
    """

    pictures: tuple[Path, ...] = ()
    masks: tuple[Path, ...] = ()
    number: int = 0

    @cached_property
    def _paired(self) -> tuple[list[Given], list[str]]:
        return pair(self.pictures, self.masks) if self.pictures else ([], [])

    @property
    def given(self) -> list[Given]:
        """The pictures with their masks. Raises KerbsegError where there is none among the files."""
        return self._paired[0]

    @property
    def notes(self) -> list[str]:
        """What is said of files that are left out."""
        return self._paired[1]

    @property
    def current(self) -> Given | None:
        """The picture that is looked at; None where there is none."""
        return self.given[self.number] if self.given else None

    def with_pictures(self, pictures: Sequence[Path]) -> Selection:
        """Other pictures; the first is looked at."""
        return replace(self, pictures=tuple(pictures), number=0)

    def with_masks(self, masks: Sequence[Path]) -> Selection:
        """Other masks; the picture that is looked at stays."""
        return replace(self, masks=tuple(masks))

    def at(self, number: int) -> Selection:
        """Another picture, by its number; after the last comes the first."""
        return replace(self, number=number % len(self.given)) if self.given else self
