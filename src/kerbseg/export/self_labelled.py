"""Pictures without masks, measured by what the network itself sees in float32.

Every pixel that changes counts as lost there, those that become right too: mIoU falls much further than it does on
labels. So it is shown, and nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerbseg.bundle import Bundle
from kerbseg.core.types import Dataset, Sample
from kerbseg.data.plain_pictures import PlainPictures, plain_pictures
from kerbseg.export.int8 import CALIBRATION_PICTURES
from kerbseg.runtime import open_runtime, segment


class SelfLabelled:
    """Pictures whose truth is the float network's own ids: mIoU then says how much of them another one keeps."""

    split = "as float32 sees it"

    def __init__(self, pictures: PlainPictures, bundle: Bundle, size: tuple[int, int]) -> None:
        self.name, self.labels = pictures.name, pictures.labels
        self._pictures, self._runtime, self._size = pictures, open_runtime(bundle), size

    @property
    def names(self) -> Sequence[str]:
        """Of the pictures, in order."""
        return self._pictures.names

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        sample = self._pictures[index]
        return sample._replace(mask=segment(self._runtime, sample.image, self._size))


def unlabelled(root: Path, bundle: Bundle, size: tuple[int, int] | None = None) -> tuple[Dataset, Dataset]:
    """What `export_int8` needs of a folder of pictures: every second one to calibrate on, the others to measure on.

    At most 300 of each, evenly spread. Raises DataError where the folder holds no pictures, or a data set.
    """
    pictures = plain_pictures(root, bundle.card.labels)
    calibration, others = pictures.halves(CALIBRATION_PICTURES)
    return calibration, SelfLabelled(others, bundle, size or bundle.card.input_size)
