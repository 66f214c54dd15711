"""A region of interest: a rectangle of the picture that alone is segmented."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.core.types import VOID

if TYPE_CHECKING:
    from kerbseg.core.labels import LabelSet
    from kerbseg.predict.prediction import Prediction
    from kerbseg.predict.sources.arrays import Channels
    from kerbseg.predict.videos import Segmenter

FORM = re.compile(r"(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})", re.ASCII)


@dataclass(frozen=True)
class Roi:
    """A rectangle, in pixels; x and y are those of its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.x < 0 or self.y < 0 or self.width < 1 or self.height < 1:
            raise KerbsegError(f"region {self} has no pixels, or begins outside the picture; give X,Y,W,H")

    @classmethod
    def parse(cls, text: str) -> Roi:
        """Of `X,Y,W,H`, such as 0,120,640,240. Raises KerbsegError for anything else."""
        parts = FORM.fullmatch(text.replace(" ", ""))
        if parts is None:
            raise KerbsegError(f"region {text!r} is no X,Y,W,H in pixels, such as 0,120,640,240")
        return cls(*map(int, parts.groups()))

    def of(self, picture: UInt8[np.ndarray, "H W 3"]) -> tuple[slice, slice]:
        """Rows and columns of the region in a picture. Raises InputError where it is not all inside."""
        height, width = picture.shape[:2]
        if self.x + self.width > width or self.y + self.height > height:
            raise InputError(
                f"region {self} (X,Y,W,H) is not inside a picture of {width}x{height} (width x height); move it, or"
                " make it smaller"
            )
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


class RoiSegmenter:
    """A predictor that looks at one region of each picture; ids are VOID (255) elsewhere, confidence is 0 there.

    The region is to it a picture of its own: the ids in it are those of the cut-out region.
    """

    def __init__(self, predictor: Segmenter, roi: Roi) -> None:
        self._predictor, self.roi = predictor, roi

    @property
    def labels(self) -> LabelSet:
        """The classes of the ids."""
        return self._predictor.labels

    def __call__(
        self, picture: UInt8[np.ndarray, "h w 3"], /, *, channels: Channels = "rgb", confidence: bool = False
    ) -> Prediction:
        """What is seen in the region, at its place in the whole picture. Raises InputError for a smaller picture."""
        rows, columns = self.roi.of(picture)
        inside = self._predictor(picture[rows, columns], channels=channels, confidence=confidence)
        ids = np.full(picture.shape[:2], VOID, np.uint8)
        ids[rows, columns] = inside.ids
        sure = None
        if inside.confidence is not None:
            sure = np.zeros(picture.shape[:2], inside.confidence.dtype)
            sure[rows, columns] = inside.confidence
        whole = picture if channels == "rgb" else picture[..., ::-1]
        return replace(inside, ids=ids, confidence=sure, picture=whole, region=(rows, columns))

    def with_vote(self, memory: float) -> RoiSegmenter:
        """One for the frames of one video, whose ids are a vote over time."""
        return RoiSegmenter(self._predictor.with_vote(memory), self.roi)

    def for_frames(self) -> tuple[RoiSegmenter, int]:
        """One for several frames at the same time, and how many; it may be this one, and one."""
        from kerbseg.predict.videos import SharedSegmenter

        if not isinstance(self._predictor, SharedSegmenter):
            return self, 1
        inside, calls = self._predictor.for_frames()
        return RoiSegmenter(inside, self.roi), calls
