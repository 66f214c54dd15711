"""What is known of each frame of a sequence when keyframes are chosen: one small record a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.resize import resize_ids
from kerbseg.keyframes.motion import MotionMeter, Thumbnail, analyzed, thumbnail
from kerbseg.keyframes.quality import RECENT, Measures, QualityMeter, measure, quality_of
from kerbseg.keyframes.semantics import Box, Semantics, semantics_of


@dataclass(frozen=True)
class FrameScores:
    """Quality, semantics and motion of one frame."""

    index: int
    time_ns: int
    quality: float  # 0..1
    sem: float = 0.0  # share of the pixels: whole target less cut-off target, 0 at least
    motion: float = 0.0  # since the frame before, in pixels of a picture 480 wide
    cut: bool = False  # a new shot begins here
    measures: Measures | None = field(default=None, repr=False)
    semantics: Semantics = field(default=Semantics(), repr=False)
    thumbnail: Thumbnail = field(default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False)

    @property
    def time_s(self) -> float:
        """Time in seconds."""
        return self.time_ns / 1e9


class Scorer:
    """Scores the frames of one sequence, one after the other; what it remembers does not grow."""

    def __init__(self, target: Iterable[int]) -> None:
        self._target = tuple(target)
        self._quality, self._motion = QualityMeter(), MotionMeter()
        self._next = 0

    def add(self, picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"], time_ns: int) -> FrameScores:
        """The scores of the next frame, of its RGB pixels and class ids."""
        gray = analyzed(picture)
        small = thumbnail(gray)
        measures, motion = measure(gray), self._motion.add(gray, small)
        semantics = semantics_of(resize_ids(ids, gray.shape), self._target, by_class=True)
        shown = _in_pixels_of(semantics, gray.shape, ids.shape)
        index, self._next = self._next, self._next + 1
        return FrameScores(
            index=index,
            time_ns=time_ns,
            quality=self._quality.add(measures),
            sem=shown.value,
            motion=motion.pixels,
            cut=motion.cut,
            measures=measures,
            semantics=shown,
            thumbnail=small,
        )


def _in_pixels_of(shown: Semantics, small: tuple[int, ...], size: tuple[int, ...]) -> Semantics:
    """Boxes as they lie in the picture itself."""
    if small == size:
        return shown
    down, right = size[0] / small[0], size[1] / small[1]
    boxes: tuple[Box, ...] = tuple(
        (round(left * right), round(top * down), round(end * right), round(bottom * down))
        for left, top, end, bottom in shown.boxes
    )
    return Semantics(shown.whole, shown.part, boxes)


def judged_again(scores: FrameScores, among: Sequence[Measures]) -> FrameScores:
    """The scores with the quality among other frames: of one that came too early to have had a past."""
    if scores.measures is None:
        return scores
    return replace(scores, quality=quality_of(scores.measures, among))


def all_judged(scores: Sequence[FrameScores]) -> list[FrameScores]:
    """Those of a whole sequence, the first 31 judged among each other."""
    early = [each.measures for each in scores[:RECENT] if each.measures is not None]
    return [*(judged_again(each, early) for each in scores[:RECENT]), *scores[RECENT:]]
