"""A folder of pictures without masks, such as those that int8 is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kerbseg.core.errors import DataError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID, Sample
from kerbseg.data.pairs import by_relative_stem, readable
from kerbseg.data.pictures import read_rgb


class PlainPictures:
    """Pictures of a folder; no pixel has a label."""

    split = "pictures"

    def __init__(self, name: str, labels: LabelSet, files: Sequence[tuple[str, Path]]) -> None:
        self.name, self.labels = name, labels
        self._files = list(files)

    @property
    def files(self) -> list[Path]:
        """Of the pictures, in order."""
        return [path for _, path in self._files]

    @property
    def names(self) -> list[str]:
        """Of the pictures, in order."""
        return [name for name, _ in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError for a file that cannot be read."""
        name, path = self._files[index]
        image = read_rgb(path)
        return Sample(image, np.full(image.shape[:2], VOID, np.uint8), name)

    def halves(self, most: int) -> tuple[PlainPictures, PlainPictures]:
        """Every second picture and the others, of each at most `most`, evenly spread; both all where there is one."""
        spread = np.linspace(0, len(self) - 1, min(len(self), 2 * most)).round().astype(int)
        files = [self._files[index] for index in spread]
        one, other = files[::2], files[1::2] or files
        return PlainPictures(self.name, self.labels, one), PlainPictures(self.name, self.labels, other)


def plain_pictures(root: Path, labels: LabelSet) -> PlainPictures:
    """All pictures of a folder and its subfolders, for a network with those labels.

    Raises DataError where there is none, where one stem stands twice, and for a data set, whose masks are no pictures.
    """
    from kerbseg.data.formats import advice

    if (root / "dataset.yaml").exists():
        raise DataError(f"{root} is a data set, with masks: name it as folder --data-root {root}")
    if other := advice(root):
        raise DataError(f"{root} holds labels too; name the folder of its pictures, or make a data set: {other}")
    with readable():
        files = by_relative_stem(root)
    if not files:
        raise DataError(f"{root} holds no pictures; name a folder of PNG or JPEG files")
    return PlainPictures(root.resolve().name, labels, sorted(files.items()))
