"""Metrics at the borders between classes, where a mean over all pixels hardly looks."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from kerbseg.core.types import VOID

DIAGONAL_SHARE = 0.02
"""Width of the strip of boundary IoU, as a share of the picture's diagonal: the paper's choice."""

DISTANCES_PX = (1, 3, 5, 10)
"""Widths of the bands around the borders of the truth in which mIoU is measured."""


def near_border(ids: UInt8[np.ndarray, "h w"], distance: int, frame: bool = False) -> Bool[np.ndarray, "h w"]:
    """Pixels with one of another id at most `distance` away, corners included; with `frame` the outside is another id.

    These are the pixels whose neighbors differ, and all at most `distance - 1` away from one of them.
    """
    touching = np.zeros(ids.shape, bool)
    for one, other in _NEIGHBORS:
        differ = ids[one] != ids[other]
        touching[one] |= differ
        touching[other] |= differ
    near = _spread(touching, distance - 1)
    if frame:
        near[:distance] = near[-distance:] = True
        near[:, :distance] = near[:, -distance:] = True
    return near


_NEIGHBORS = (
    (np.s_[:, 1:], np.s_[:, :-1]),
    (np.s_[1:], np.s_[:-1]),
    (np.s_[1:, 1:], np.s_[:-1, :-1]),
    (np.s_[1:, :-1], np.s_[:-1, 1:]),
)


def _spread(mask: Bool[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Pixels at most so far from one of the mask, along each axis by windows that double."""
    for _ in range(2):
        reached, window = np.pad(mask, ((0, 0), (distance, distance))), 1
        while window <= 2 * distance:
            step = min(window, 2 * distance + 1 - window)
            reached = reached[:, :-step] | reached[:, step:]
            window += step
        mask = reached.T
    return mask


class BoundaryIou:
    """Boundary IoU (Cheng et al. 2021) of each class: IoU of the strips along the inside of both masks' outlines.

    A strip is as wide as 2 % of the picture's diagonal; the picture's frame is an outline. Void pixels are taken out
    of both masks. Overlaps and unions are summed over all pictures, as those of IoU are.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._overlap, self._union = np.zeros((2, classes), np.int64)

    def update(self, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture."""
        width = max(1, round(DIAGONAL_SHARE * math.hypot(*truth.shape)))
        ids = np.where(truth == VOID, np.uint8(VOID), ids)
        strips = near_border(ids, width, frame=True), near_border(truth, width, frame=True)
        overlap = self._count(truth[strips[0] & strips[1] & (ids == truth)])
        self._overlap += overlap
        self._union += self._count(ids[strips[0]]) + self._count(truth[strips[1]]) - overlap

    def compute(self) -> Float[np.ndarray, " k"]:
        """Fractions in 0..1; NaN for a class absent from both labels and predictions."""
        with np.errstate(invalid="ignore"):
            return self._overlap / self._union

    def _count(self, ids: np.ndarray) -> np.ndarray:
        return np.bincount(ids, minlength=256)[: self._classes]


class BandConfusions:
    """Confusion matrices of the pixels in bands around the borders of the truth, borders to void included."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._rings = np.zeros((len(DISTANCES_PX) + 1, classes, classes), np.int64)

    def update(self, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture."""
        ring = sum((~near_border(truth, distance)).astype(np.int64) for distance in DISTANCES_PX)
        known = truth != VOID
        cell = (np.asarray(ring)[known] * self._classes + truth[known]) * self._classes + ids[known]
        self._rings += np.bincount(cell, minlength=self._rings.size).reshape(self._rings.shape)

    def compute(self) -> tuple[dict[int, Int[torch.Tensor, "k k"]], Int[torch.Tensor, "k k"]]:
        """The matrix of all pixels at most so far from a border, by distance; and that of the pixels farther away."""
        within = self._rings.cumsum(0)
        bands = {distance: torch.from_numpy(within[i]) for i, distance in enumerate(DISTANCES_PX)}
        return bands, torch.from_numpy(self._rings[-1])
