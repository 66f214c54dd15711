"""Text or not: the IoU of text alone, its best threshold, presence of text a picture, and words by height.

Of what MiniNet-v2's table VIII calls MIoU only the IoU of text can be meant: text covers 1 to 2 % of the pixels, so a
network that never says "text" has a mean of both classes of .49, and the table prints .28 to .32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from kerbseg.core.types import VOID
from kerbseg.metrics.regions import label_regions

TEXT = 1  # train id, of the label set `text`
SMALLEST_PX = 20  # pixels that touch, of a text that a picture is said to show
BINS = 1000  # thresholds that are compared
WORD_HEIGHTS = {"< 8 px": 8, "8-16 px": 16, "16-32 px": 32, ">= 32 px": None}
"""The first height that is too large for each group, in pixels of the picture's own size."""


@dataclass(frozen=True)
class TextFigures:
    """Of all pixels of all pictures, void ones left out; None where nothing is compared."""

    iou: float | None
    precision: float | None
    recall: float | None
    miou: float | None  # mean of text and background

    @classmethod
    def of(cls, confusion: Int[np.ndarray, "2 2"]) -> TextFigures:
        """From a matrix with rows of truth and columns of prediction."""
        (right, false), (missed, hits) = confusion.tolist()
        both = [_share(hits, hits + false + missed), _share(right, right + false + missed)]
        there = [each for each in both if each is not None]
        mean = sum(there) / len(there) if there else None
        return cls(both[0], _share(hits, hits + false), _share(hits, hits + missed), mean)


def text_confusion(ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> Int[np.ndarray, "2 2"]:
    """Pixels of one picture by truth (rows) and prediction (columns): background, text."""
    known = truth != VOID
    cells = 2 * (truth[known] == TEXT) + (ids[known] == TEXT)
    return np.bincount(cells, minlength=4).reshape(2, 2)


class ThresholdCurve:
    """IoU of text at each threshold of its probability, from counts that do not grow with the pictures."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, BINS), np.int64)  # background and text, by probability

    def update(self, probability: Float[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture, of which `probability` is that of text."""
        known = truth != VOID
        place = np.minimum((probability[known] * BINS).astype(np.int64), BINS - 1)
        cells = np.bincount(place + BINS * (truth[known] == TEXT), minlength=2 * BINS)
        self._counts += cells.reshape(2, BINS)

    def iou(self) -> Float[np.ndarray, " n"]:
        """At the thresholds 0, 1/BINS, 2/BINS ...: text is what has at least that probability; NaN without text."""
        said = self._counts[:, ::-1].cumsum(1)[:, ::-1]
        total = self._counts[1].sum()
        with np.errstate(invalid="ignore"):
            return said[1] / (total + said[0]) if total else np.full(BINS, np.nan)

    def best(self) -> tuple[float, float] | None:
        """The threshold with the highest IoU, and that IoU; the middle one of equals. None without text."""
        curve = self.iou()
        if np.isnan(curve).all():
            return None
        highest = np.flatnonzero(curve == curve.max())
        place = int(highest[len(highest) // 2])
        return place / BINS, float(curve[place])

    def confusion(self, threshold: float) -> Int[np.ndarray, "2 2"]:
        """Pixels by truth (rows) and what is said at one of the thresholds (columns)."""
        place = round(threshold * BINS)
        return np.stack([self._counts[:, :place].sum(1), self._counts[:, place:].sum(1)], 1)


@dataclass(frozen=True)
class Presence:
    """Pictures that show text, against pictures that are said to: for a choice of frames."""

    with_text: int
    without_text: int
    precision: float | None  # share of those that are said to show text and do
    recall: float | None  # share of those that show text and are said to


class PresenceCounter:
    """Counts pictures: one shows text where pixels of it that touch are `SMALLEST_PX` or more."""

    def __init__(self) -> None:
        self._pictures = np.zeros((2, 2), np.int64)

    def update(self, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture; what is said of void pixels is left out. One that is void everywhere does not count."""
        known = truth != VOID
        if known.any():
            self._pictures[int(shows_text(truth == TEXT)), int(shows_text((ids == TEXT) & known))] += 1

    def compute(self) -> Presence:
        """The figures until now."""
        (right, false), (missed, hits) = self._pictures.tolist()
        return Presence(hits + missed, right + false, _share(hits, hits + false), _share(hits, hits + missed))


def shows_text(text: Bool[np.ndarray, "h w"]) -> bool:
    """Whether `SMALLEST_PX` pixels of text or more touch each other, at a side or a corner."""
    if np.count_nonzero(text) < SMALLEST_PX:
        return False
    region, is_text = label_regions(text.astype(np.uint8))
    return bool((np.bincount(region.ravel())[is_text == 1] >= SMALLEST_PX).any())


class WordCounter:
    """Words of which half the pixels or more are recognized, by height."""

    def __init__(self) -> None:
        self._words = dict.fromkeys(WORD_HEIGHTS, 0)
        self._hits = dict.fromkeys(WORD_HEIGHTS, 0)

    def update(self, ids: UInt8[np.ndarray, "h w"], words: Iterable[tuple[Bool[np.ndarray, "h w"], float]]) -> None:
        """Counts the words of one picture, each its pixels and its height; one without a pixel is left out."""
        for pixels, height in words:
            if area := np.count_nonzero(pixels):
                group = next(name for name, bound in WORD_HEIGHTS.items() if bound is None or height < bound)
                self._words[group] += 1
                self._hits[group] += bool(2 * np.count_nonzero(pixels & (ids == TEXT)) >= area)

    def compute(self) -> dict[str, WordRecall]:
        """The figures until now, by height."""
        return {name: WordRecall(n, _share(int(self._hits[name]), n)) for name, n in self._words.items()}


@dataclass(frozen=True)
class WordRecall:
    """Words of one height: their number, and the share of them that is recognized."""

    words: int
    recall: float | None


@dataclass(frozen=True)
class Threshold:
    """The probability from which on text is said, where its IoU is highest on this split."""

    value: float
    iou: float


@dataclass(frozen=True)
class TextReport:
    """All that is said of text or not; where the network was asked in two ways, each has figures of its own."""

    own: TextFigures  # at the pictures' own size, as evaluation and prediction look at them
    stretched: TextFigures  # pictures and labels brought to the network's size, as the paper does
    stretched_size: tuple[int, int]  # height, width
    presence: Presence
    labels: str = ""  # which labels, and how they are drawn
    whole: bool = False  # whether these are the public data set's labels, and not a part of them
    void_share: float = 0.0
    threshold: Threshold | None = None  # at the pictures' own size; None where a runtime gives no probabilities
    stretched_threshold: Threshold | None = None
    words: Mapping[str, WordRecall] | None = None  # where the data set knows words

    def to_dict(self) -> dict[str, object]:
        """As `kerbseg evaluate --json` writes it."""
        return asdict(self) | {"stretched_size": list(self.stretched_size)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
