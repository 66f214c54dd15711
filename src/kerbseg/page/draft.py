"""Labels under correction: what a brush paints, what is taken back, and what is left as it was predicted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw

from kerbseg.core.errors import InputError

STEPS = 30  # that can be taken back; each is a byte a pixel
MOST_POINTS = 100_000  # of a stroke: a browser sends no so many


@dataclass(frozen=True)
class Stroke:
    """What a round brush covers from the moment it is set down until it is lifted; in pixels of the picture."""

    points: tuple[tuple[float, float], ...]  # (column, row) of its middle
    radius: float

    @classmethod
    def parse(cls, points: Any, radius: Any) -> Stroke:
        """Of what a browser sends. Raises InputError for what is no stroke."""
        try:
            ends = tuple((float(x), float(y)) for x, y in points[:MOST_POINTS])
            finite = all(math.isfinite(value) and abs(value) < 1e6 for value in (float(radius), *sum(ends, ())))
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"a stroke is a list of points and a radius, found {points!r:.40}, {radius!r:.20}"
            ) from error
        if not ends or not finite or not 0 < float(radius) <= 1000:
            raise InputError("a stroke has points, and a radius above 0 and at most 1000 pixels; paint it again")
        return cls(ends, float(radius))

    def covers(self, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """Which pixels of a picture of that height and width it covers; what leaves the picture is cut off."""
        sheet = Image.new("1", size[::-1])
        draw = ImageDraw.Draw(sheet)
        for x, y in self.points:
            draw.ellipse((x - self.radius, y - self.radius, x + self.radius, y + self.radius), fill=1)
        draw.line(self.points, fill=1, width=max(1, round(2 * self.radius)), joint="curve")
        return np.array(sheet)


@dataclass(frozen=True, eq=False)
class Draft:
    """Train ids of one picture, with those after each of the last strokes."""

    predicted: UInt8[np.ndarray, "h w"]
    first: UInt8[np.ndarray, "h w"]  # before the strokes that can be taken back
    steps: tuple[UInt8[np.ndarray, "h w"], ...] = ()  # the last is how it is now

    @classmethod
    def of(cls, predicted: UInt8[np.ndarray, "h w"]) -> Draft:
        """One that nobody has painted on."""
        return cls(predicted, predicted)

    @property
    def ids(self) -> UInt8[np.ndarray, "h w"]:
        """The labels as they are now."""
        return self.steps[-1] if self.steps else self.first

    @property
    def changed(self) -> int:
        """Pixels that are not as predicted."""
        return int((self.ids != self.predicted).sum())

    def painted(self, where: Bool[np.ndarray, "h w"], train_id: int | None) -> Draft:
        """The draft with these pixels of that class, or as they were predicted (None); itself where nothing changes."""
        ids = np.where(where, self.predicted if train_id is None else np.uint8(train_id), self.ids)
        if (ids == self.ids).all():
            return self
        steps = (*self.steps, ids)
        first = steps[-STEPS - 1] if len(steps) > STEPS else self.first
        return Draft(self.predicted, first, steps[-STEPS:])

    def undone(self) -> Draft:
        """The draft without its last stroke."""
        return Draft(self.predicted, self.first, self.steps[:-1])
