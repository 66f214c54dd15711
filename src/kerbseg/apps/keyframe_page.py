"""The page of `kerbseg keyframes`: each chosen frame beside the one of the plain rule, and the scores along time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

from kerbseg.apps.html import data_uri, render, thumbnail
from kerbseg.core.display import display_palette
from kerbseg.core.labels import LabelSet
from kerbseg.keyframes.figures import Timeline
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.selection import Keyframe
from kerbseg.keyframes.stream import Kept

if TYPE_CHECKING:
    from kerbseg.apps.keyframes import Report

MOST_PAIRS = 48  # that are shown; of more, every second one, every fourth ...
THUMBNAIL_PX = 360
TINT = 0.55  # weight of the target's color
WIDTH, HEIGHT = 1000, 100  # of the drawing of scores, in its own units
WHY = {
    "motion": "the view had moved",
    "time": "time had passed",
    "due": "a keyframe was due",
    "cut": "a new shot began",
    "end": "the sequence ended",
    "all": "",
}


@dataclass(frozen=True)
class Card:
    """One frame as the page shows it."""

    index: int
    name: str
    picture: str
    whole: float
    part: float


@dataclass(frozen=True)
class Pair:
    """A chosen frame and that of the plain rule."""

    number: int
    why: str
    chosen: Card
    plain: Card
    same: bool


class Album:
    """Draws pairs as they come, and keeps a bounded number of them, spread evenly."""

    def __init__(self, labels: LabelSet, target: Sequence[int], name: Callable[[FrameScores], str]) -> None:
        self._palette, self._target, self._name = display_palette(labels), tuple(target), name
        self._every, self.total = 1, 0
        self.pairs: list[Pair] = []
        self.colors = [(labels.classes[i], tuple(self._palette[i].tolist())) for i in target]

    def add(self, keyframe: Keyframe) -> None:
        """One more pair."""
        number, self.total = self.total, self.total + 1
        if number % self._every:
            return
        same = keyframe.scores.index == keyframe.plain.index
        chosen = self._card(keyframe.scores, keyframe.kept)
        plain = chosen if same else self._card(keyframe.plain, keyframe.kept_plain)
        self.pairs.append(Pair(number + 1, WHY[keyframe.why], chosen, plain, same))
        if len(self.pairs) > MOST_PAIRS:
            self.pairs, self._every = self.pairs[::2], 2 * self._every

    def _card(self, scores: FrameScores, kept: Kept) -> Card:
        shown = scores.semantics
        picture = data_uri(thumbnail(self._drawn(kept, scores), THUMBNAIL_PX))
        return Card(scores.index, self._name(scores), picture, shown.whole, shown.part)

    def _drawn(self, kept: Kept, scores: FrameScores) -> UInt8[np.ndarray, "h w 3"]:
        """The picture with the target in its color, and a box round each whole region of it."""
        pixels = kept.picture.copy()
        for each in self._target:
            where = kept.ids == each
            pixels[where] = (pixels[where] * (1 - TINT) + self._palette[each] * TINT).astype(np.uint8)
        picture = Image.fromarray(pixels)
        drawing = ImageDraw.Draw(picture)
        line = max(1, round(picture.width / THUMBNAIL_PX))
        for left, top, right, bottom in scores.semantics.boxes:
            drawing.rectangle((left - line, top - line, right, bottom), outline=(255, 255, 255), width=line)
        return np.asarray(picture)


def page(
    report: Report, target: Sequence[str], rule: str, album: Album, timeline: Timeline,
    chosen: Sequence[int], plain: Sequence[int],
) -> str:  # fmt: skip
    """The page as HTML."""
    time_s = timeline.time_ns / 1e9
    sem, quality = timeline["sem"], timeline["Q"]
    return render(
        "keyframes.html.j2",
        report=report,
        target=target,
        rule=rule,
        colors=album.colors,
        pairs=album.pairs,
        total=album.total,
        qualities=quality,
        quality=_curve(quality, 1.0),
        semantics=_curve(sem, float(sem.max())),
        motion=_curve(timeline["motion"], float(np.percentile(timeline["motion"], 99)) or 1.0),
        most_sem=float(sem.max()),
        chosen_marks=_marks(chosen, len(time_s)),
        plain_marks=_marks(plain, len(time_s)),
        duration_s=float(time_s[-1] - time_s[0]),
        rows=_rows(report),
    )


def _rows(report: Report) -> list[dict[str, Any]]:
    """Figures of both rules, line by line."""
    names = {
        "keyframes": "keyframes",
        "quality": "mean quality",
        "target_ratio": "target shown whole, times the sequence's mean",
        "part_share": "part of the shown target that is cut off",
        "coverage": "target near a good keyframe",
        "largest_gap_s": "largest gap (s)",
    }
    return [
        {
            "name": name,
            "share": key in ("part_share", "coverage"),
            "chosen": report.chosen.get(key),
            "plain": report.plain.get(key),
        }
        for key, name in names.items()
    ]


def _curve(values: Float64[np.ndarray, " n"], most: float) -> str:
    """Points of a line in the drawing's units; of a long sequence the mean of each stretch."""
    if len(values) > WIDTH:
        edges = np.linspace(0, len(values), WIDTH + 1).astype(int)
        values = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    height = HEIGHT * (1 - np.clip(values / (most or 1.0), 0, 1))
    across = (np.arange(len(values)) + 0.5) * WIDTH / len(values)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, height, strict=True))


def _marks(indices: Sequence[int], count: int) -> list[str]:
    """Where frames are along the drawing; of more than it can show, some."""
    every = max(1, len(indices) // WIDTH)
    return [f"{(i + 0.5) * WIDTH / count:.1f}" for i in sorted({*indices})[::every]]
