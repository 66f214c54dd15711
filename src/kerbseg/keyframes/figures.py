"""What can be said of chosen frames against all of a sequence, without labels."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from kerbseg.keyframes.quality import RECENT, Measures, quality_of
from kerbseg.keyframes.scores import FrameScores

AT_ONCE = 4096  # frames whose distances to all keyframes are looked at together

UNMEASURED = Measures(0.0, 0.0, 0.0, 0.0, 0.0)
"""In place of what was not measured."""

COLUMNS = ("Q", "g", "b", "m", "lo", "hi", "whole", "part", "sem", "motion")
"""Scores of a frame as files name them: quality, gradient, sharpness, brightness, dark, bright and so on."""


def row(scores: FrameScores) -> tuple[float, ...]:
    """The scores of a frame in the order of `COLUMNS`."""
    seen, shown = scores.measures or UNMEASURED, scores.semantics
    measures = (seen.gradient, seen.sharpness, seen.brightness, seen.dark, seen.bright)
    return (scores.quality, *measures, shown.whole, shown.part, scores.sem, scores.motion)


@dataclass(frozen=True)
class Timeline:
    """The scores of all frames so far, as bare numbers: about 90 bytes a frame."""

    times: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, scores: Iterable[FrameScores]) -> Timeline:
        """Of all frames of a sequence."""
        timeline = cls()
        for each in scores:
            timeline.add(each)
        return timeline

    def add(self, scores: FrameScores) -> None:
        """One more frame."""
        self.times.append(scores.time_ns)
        self.values.extend(row(scores))

    def judged_again(self) -> Timeline:
        """The same, the first 31 frames judged among each other: they came too early to have had a past."""
        values, width = self.values[:], len(COLUMNS)
        early = [Measures(*values[i : i + 5]) for i in range(1, min(RECENT, len(self)) * width, width)]
        for i, measures in enumerate(early):
            if measures != UNMEASURED:
                values[i * width] = quality_of(measures, early)
        return Timeline(self.times, values)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def time_ns(self) -> Int64[np.ndarray, " n"]:
        """Times in nanoseconds."""
        return np.array(self.times, np.int64)

    def __getitem__(self, column: str) -> Float64[np.ndarray, " n"]:
        return np.array(self.values, np.float64).reshape(-1, len(COLUMNS))[:, COLUMNS.index(column)]

    __iter__ = None  # columns are asked for by name


def summary(timeline: Timeline, chosen: Sequence[int]) -> dict[str, Any]:
    """Figures of the chosen frames; what cannot be measured is None.

    `target_ratio` is the mean whole share of the target, chosen over all; `part_share` is what the border cuts off
    among the target in the chosen frames; `coverage` is the mean, over all of the target, of the nearness of a keyframe
    (exp(-d / (step / 2)) by the motion d between, with the mean step) times that keyframe's quality.
    """
    count, total = len(chosen), len(timeline)
    if not count:
        return {"frames": total, "keyframes": 0}
    index = np.array(sorted(chosen))
    quality, whole, part = timeline["Q"], timeline["whole"], timeline["part"]
    moved, time_s = np.cumsum(timeline["motion"]), timeline.time_ns / 1e9
    step = (moved[-1] - moved[0]) / count
    gaps = [np.diff(each[index]) for each in (np.arange(total), time_s, moved)]
    return {
        "frames": total,
        "keyframes": count,
        "reduction": count / total,
        "quality": float(quality[index].mean()),
        "quality_ratio": _ratio(quality[index].mean(), quality.mean()),
        "target_ratio": _ratio(whole[index].mean(), whole.mean()),
        "part_share": _ratio(part[index].sum(), (part + whole)[index].sum()),
        "coverage": _ratio(float((whole * served(moved, index, quality[index], step)).sum()), whole.sum()),
        "largest_gap_frames": int(gaps[0].max()) if count > 1 else None,
        "largest_gap_s": float(gaps[1].max()) if count > 1 else None,
        "largest_gap_steps": _ratio(gaps[2].max(), step) if count > 1 else None,
    }


def served(
    moved: Float64[np.ndarray, " n"],
    chosen: Int64[np.ndarray, " k"],
    worth: Float64[np.ndarray, " k"],
    step: float,
) -> Float64[np.ndarray, " n"]:
    """How well each frame is served by the best of the chosen ones: its worth, less with distance."""
    best = np.empty(len(moved))
    for begin in range(0, len(moved), AT_ONCE):
        distance = np.abs(moved[begin : begin + AT_ONCE, None] - moved[chosen])
        best[begin : begin + AT_ONCE] = (worth * np.exp(-distance / max(1e-9, step / 2))).max(1)
    return best


def _ratio(one: float, other: float) -> float | None:
    return float(one / other) if other > 0 else None
