"""Metrics of regions: the connected pixels of one class, each of which counts as much as the others of its size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from kerbseg.core.types import VOID

SMALLEST_PX = 16
"""Pixels that a region of the truth has at least: what is smaller is a crumb of the labelling."""

SIZES = {"small": 32**2, "medium": 96**2, "large": None}
"""The first area in pixels that is too large for each size, at the labels' own size; COCO's bounds."""


@dataclass(frozen=True)
class SizeFigures:
    """Regions of one size: their number and pixels, the share of the pixels that were hit, and the mean region IoU."""

    regions: int
    pixels: int
    recall: float | None
    iou: float | None


def label_regions(ids: UInt8[np.ndarray, "h w"]) -> tuple[Int[np.ndarray, "h w"], UInt8[np.ndarray, " n"]]:
    """The number 0..n-1 of each pixel's region, and each region's id; touching corners connect.

    Runs of equal pixels in a row are joined with those that they touch in the row above, by the smallest number.
    """
    starts = np.ones(ids.shape, bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    run = starts.cumsum().reshape(ids.shape) - 1
    one, other = _touching(ids, run, starts)
    parent = np.arange(run[-1, -1] + 1)
    while len(one):
        above, below = parent[one], parent[other]
        smaller = np.minimum(above, below)
        np.minimum.at(parent, above, smaller)
        np.minimum.at(parent, below, smaller)
        while (parent[parent] != parent).any():
            parent = parent[parent]
        apart = parent[one] != parent[other]
        one, other = one[apart], other[apart]
    first, number = np.unique(parent, return_inverse=True)
    return number[run], ids[starts][first]


def _touching(ids: np.ndarray, run: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs of one id in neighboring rows, each pair where its touch begins."""
    pairs = []
    width = ids.shape[1]
    for shift in (-1, 0, 1):
        upper = np.s_[:-1, max(shift, 0) : width + min(shift, 0)]
        lower = np.s_[1:, max(-shift, 0) : width + min(-shift, 0)]
        begins = starts[upper] | starts[lower]
        begins[:, :1] = True
        touch = begins & (ids[upper] == ids[lower])
        pairs.append((run[upper][touch], run[lower][touch]))
    above, below = zip(*pairs, strict=True)
    return np.concatenate(above), np.concatenate(below)


class RegionIou:
    """Region IoU (Chan et al. 2021, there sIoU) of the truth's regions, by class and size.

    A region is compared with all predicted regions of its class that touch it; of these, what lies in other regions of
    the truth of the same class is not held against it. Void pixels are taken out of the prediction.
    """

    def __init__(self, classes: int) -> None:
        self._sums = np.zeros((4, classes, len(SIZES)))  # regions, pixels, hits, IoU

    def update(self, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture."""
        wanted, kind = label_regions(truth)
        given, given_kind = label_regions(np.where(truth == VOID, np.uint8(VOID), ids))
        hit = (ids == truth) & (truth != VOID)
        area = np.bincount(wanted.ravel())
        pairs, pixels = np.unique(wanted[hit] * len(given_kind) + given[hit], return_counts=True)
        of_wanted, of_given = np.divmod(pairs, len(given_kind))
        hits = np.bincount(of_wanted, pixels, len(area))
        wrong = np.bincount(given.ravel()) - np.bincount(of_given, pixels, len(given_kind))
        union = area + np.bincount(of_wanted, wrong[of_given], len(area))
        kept = (kind != VOID) & (area >= SMALLEST_PX)
        size = np.digitize(area[kept], [bound for bound in SIZES.values() if bound])
        cell = kind[kept].astype(np.int64) * len(SIZES) + size
        for total, each in zip(self._sums, (None, area[kept], hits[kept], (hits / union)[kept]), strict=True):
            total += np.bincount(cell, each, total.size).reshape(total.shape)

    def by_size(self) -> dict[str, SizeFigures]:
        """The figures of the regions of all classes."""
        return {size: _figures(self._sums[:, :, i].sum(1)) for i, size in enumerate(SIZES)}

    def by_class(self) -> list[dict[str, SizeFigures]]:
        """The same of each class by itself."""
        return [{size: _figures(each[:, i]) for i, size in enumerate(SIZES)} for each in self._sums.swapaxes(0, 1)]


def _figures(sums: Float[np.ndarray, " 4"]) -> SizeFigures:
    regions, pixels, hits, ious = sums.tolist()
    if not regions:
        return SizeFigures(0, 0, None, None)
    return SizeFigures(int(regions), int(pixels), hits / pixels, ious / regions)
