"""Where a network errs: figures that one confusion matrix does not give, gathered picture by picture."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.metrics import iou
from kerbseg.metrics.borders import BandConfusions, BoundaryIou
from kerbseg.metrics.regions import RegionIou, SizeFigures

WORST = 10  # pictures that are named

T = TypeVar("T")


def picture_miou(ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> float:
    """Mean IoU, within one picture, of the classes that its truth shows; NaN where all is void.

    A class that is only predicted lowers the others by its pixels; as a zero of its own, a crumb of it would outweigh
    half a street.
    """
    known = truth != VOID
    wanted = np.bincount(truth[known], minlength=256)
    given = np.bincount(ids[known], minlength=256)
    hits = np.bincount(truth[known & (ids == truth)], minlength=256)
    shown = wanted > 0
    return float((hits[shown] / (wanted + given - hits)[shown]).mean()) if shown.any() else math.nan


class Lowest(Generic[T]):
    """Keeps what came with the lowest figures, the first come where figures are equal; NaN is left out."""

    def __init__(self, most: int = WORST) -> None:
        self._most = most
        self._kept: list[tuple[float, int, T]] = []
        self._seen = 0

    def takes(self, figure: float) -> bool:
        """Whether something with this figure would be kept now."""
        return not math.isnan(figure) and (len(self._kept) < self._most or -figure > self._kept[0][0])

    def add(self, figure: float, what: T) -> None:
        """Keeps it if its figure is among the lowest until now."""
        self._seen += 1
        if self.takes(figure):
            (heapq.heappush if len(self._kept) < self._most else heapq.heapreplace)(
                self._kept, (-figure, -self._seen, what)
            )

    def in_order(self) -> list[tuple[T, float]]:
        """What is kept and its figure, the lowest first."""
        return [(what, -figure) for figure, _, what in sorted(self._kept, key=lambda each: each[:2], reverse=True)]


@dataclass(frozen=True)
class Details:
    """Fractions in 0..1; None where there was nothing to measure."""

    boundary_miou: float | None
    boundary_iou: Mapping[str, float | None]
    trimap_miou: Mapping[int, float | None]  # of the pixels at most so many pixels from a border of the truth
    interior_miou: float | None  # of all pixels farther away
    size_iou: Mapping[str, SizeFigures]
    class_size_iou: Mapping[str, Mapping[str, SizeFigures]]
    worst: tuple[tuple[str, float], ...]  # pictures and their mIoU, the lowest first

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg evaluate --json` writes it."""
        return {
            "boundary_miou": self.boundary_miou,
            "boundary_iou": dict(self.boundary_iou),
            "trimap_miou": {str(distance): value for distance, value in self.trimap_miou.items()},
            "interior_miou": self.interior_miou,
            "size_iou": {size: asdict(figures) for size, figures in self.size_iou.items()},
            "class_size_iou": {
                name: {size: asdict(figures) for size, figures in sizes.items()}
                for name, sizes in self.class_size_iou.items()
            },
            "worst": [{"name": name, "miou": value} for name, value in self.worst],
        }


class DetailCounter:
    """Gathers the figures of `Details`; what it keeps does not grow with the number of pictures."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        k = len(labels)
        self._boundary, self._bands, self._regions = BoundaryIou(k), BandConfusions(k), RegionIou(k)
        self._worst = Lowest[str]()

    def update(self, name: str, ids: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"]) -> None:
        """Counts one picture."""
        self._worst.add(picture_miou(ids, truth), name)
        for counter in (self._boundary, self._bands, self._regions):
            counter.update(ids, truth)

    def compute(self) -> Details:
        """The figures until now."""
        classes = self._labels.classes
        boundary = [_figure(value) for value in self._boundary.compute().tolist()]
        bands, interior = self._bands.compute()
        there = [value for value in boundary if value is not None]
        return Details(
            sum(there) / len(there) if there else None,
            dict(zip(classes, boundary, strict=True)),
            {distance: _figure(float(iou(matrix).nanmean())) for distance, matrix in bands.items()},
            _figure(float(iou(interior).nanmean())),
            self._regions.by_size(),
            dict(zip(classes, self._regions.by_class(), strict=True)),
            tuple(self._worst.in_order()),
        )


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else value
