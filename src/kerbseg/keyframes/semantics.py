"""How much of what is looked for a frame shows whole, and how much is cut off by the border.

Figure 4 of MiniNet's paper asks for frames with more of the target, and none with only a part of a text: a region
that touches the border is probably a part of something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from kerbseg.core.types import VOID
from kerbseg.predict.opencv import cv2_module

SMALLEST_PX, SMALLEST_SHARE = 20, 1.2e-4
"""A region below both is taken for noise."""

MARGIN_PX = 2
"""A region nearer to the border than this touches it."""

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are the first pixels outside


@dataclass(frozen=True)
class Semantics:
    """Regions of the target in one picture; shares are of all its pixels."""

    whole: float = 0.0
    part: float = 0.0  # in regions that touch the border
    boxes: tuple[Box, ...] = ()  # of the whole regions, the largest first

    @cached_property
    def value(self) -> float:
        """What speaks for the frame: what is whole less what is cut off, 0 at least."""
        return max(0.0, self.whole - self.part)


def semantics_of(
    ids: UInt8[np.ndarray, "h w"],
    target: Iterable[int],
    probability: Float32[np.ndarray, "h w"] | None = None,
    *,
    by_class: bool = False,
) -> Semantics:
    """The regions (8 neighbors) of some classes. Raises MissingExtra without OpenCV.

    With the probability of the target, a pixel counts as much as it is probable. Where the ids are void (255) from the
    border on, as in rectified pictures, the border is where that ends. All classes are one target, whose regions join;
    `by_class` keeps the regions of each class apart, so that a car which is cut off does not cut off the person beside
    it.
    """
    classes, border = tuple(dict.fromkeys(target)), _void_border(ids)
    if not by_class:
        return _regions(ids, classes, probability, border)
    return _together([_regions(ids, (each,), probability, border) for each in classes])


def _regions(
    ids: UInt8[np.ndarray, "h w"],
    classes: tuple[int, ...],
    probability: Float32[np.ndarray, "h w"] | None,
    border: Bool[np.ndarray, "h w"] | None,
) -> Semantics:
    """Those of some classes taken as one; `border` is where a region would touch void, if there is any."""
    cv2 = cv2_module()
    mask = cv2.LUT(np.ascontiguousarray(ids), _is_one_of(classes))
    x, y, across, down = cv2.boundingRect(mask)  # regions are looked for where there are any
    if not across:
        return Semantics()
    here = np.s_[y : y + down, x : x + across]
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask[here], connectivity=8)
    height, width = ids.shape
    least = max(SMALLEST_PX, SMALLEST_SHARE * ids.size)
    left, top, columns, rows, area = stats.T
    left, top = left + x, top + y
    touching = (left < MARGIN_PX) | (top < MARGIN_PX)
    touching |= (left + columns > width - MARGIN_PX) | (top + rows > height - MARGIN_PX)
    if border is not None:
        touching[np.unique(regions[border[here]])] = True
    mass = area if probability is None else np.bincount(regions.ravel(), probability[here].ravel(), count)
    counted = area >= least
    counted[0] = False  # what is none of the target
    order = sorted(np.flatnonzero(counted & ~touching).tolist(), key=lambda each: -int(area[each]))
    return Semantics(
        whole=float(mass[counted & ~touching].sum()) / ids.size,
        part=float(mass[counted & touching].sum()) / ids.size,
        boxes=tuple((int(left[i]), int(top[i]), int(left[i] + columns[i]), int(top[i] + rows[i])) for i in order),
    )


def _together(classes: Sequence[Semantics]) -> Semantics:
    """What several classes show; boxes that enclose more come first."""
    boxes = [box for each in classes for box in each.boxes]
    return Semantics(
        whole=sum(each.whole for each in classes),
        part=sum(each.part for each in classes),
        boxes=tuple(sorted(boxes, key=lambda box: -(box[2] - box[0]) * (box[3] - box[1]))),
    )


def _is_one_of(target: Iterable[int]) -> UInt8[np.ndarray, " ids"]:
    """1 at each of these ids."""
    table = np.zeros(256, np.uint8)
    table[list(target)] = 1
    return table


def _void_border(ids: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"] | None:
    """Where a region beside void that reaches in from the border would touch it; None where there is none."""
    cv2 = cv2_module()
    edges = (ids[0], ids[-1], ids[:, 0], ids[:, -1])
    if not any((edge == VOID).any() for edge in edges):
        return None
    _, regions = cv2.connectedComponents((ids == VOID).astype(np.uint8), connectivity=8)
    at_edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    border = np.isin(regions, at_edge[at_edge > 0]).astype(np.uint8)
    reach = 2 * MARGIN_PX + 1
    grown: np.ndarray = cv2.dilate(border, np.ones((reach, reach), np.uint8))
    return grown.astype(bool)
