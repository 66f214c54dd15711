"""Several data sets of the same classes as one, such as `camvid+folder`."""

from __future__ import annotations

from collections.abc import Sequence

from kerbseg.core.errors import DataError
from kerbseg.core.types import Dataset, Sample

MARK = "+"
"""Between the names of data sets that are joined."""


class JoinedDatasets:
    """One split of each, one after the other; a sample's name begins with its data set's, which so is its drive.

    Raises DataError where their classes, or the order of these, differ.
    """

    def __init__(self, split: str, parts: Sequence[Dataset]) -> None:
        first = parts[0]
        for part in parts[1:]:
            if part.labels.classes != first.labels.classes:
                raise DataError(
                    f"data sets {first.name!r} and {part.name!r} have different classes ({_shown(first)};"
                    f" {_shown(part)}); bring both to one list with a map, see docs/own-data.md"
                )
        self.name, self.split, self.labels = MARK.join(part.name for part in parts), split, first.labels
        self._index = [(part, index) for part in parts for index in range(len(part))]
        self._names = [f"{part.name}/{name}" for part in parts for name in part.names]

    @property
    def names(self) -> list[str]:
        """Of the samples, in order."""
        return self._names

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Sample:
        part, place = self._index[index]
        return part[place]._replace(name=self._names[index])


def _shown(dataset: Dataset) -> str:
    classes = dataset.labels.classes
    return ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
