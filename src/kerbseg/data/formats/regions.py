"""Marked regions of a picture, and the mask that they make together.

Readers check a region when they make it, so that painting cannot fail halfway through a data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from kerbseg.core.errors import DataError
from kerbseg.data.formats.raster import NOTHING, Patch, fill_ring

FARTHEST = 1e7  # pixels from the picture's corner; what is farther is no coordinate
ELLIPSE_CORNERS = 360

Order = Literal["smallest on top", "as listed"]


class Region(Protocol):
    """What one mark covers."""

    def cover(self, size: tuple[int, int]) -> Patch:
        """The pixels of a picture of this size (height, width)."""
        ...


@dataclass(frozen=True)
class Mark:
    """A region with the class that a person gave it, in that person's words."""

    label: str
    region: Region
    beneath: bool = False  # of all others, such as a crowd around single persons


@dataclass(frozen=True)
class Polygons:
    """All that lies in any of the rings."""

    rings: tuple[Float[np.ndarray, "n 2"], ...]  # (x, y) in pixels

    def cover(self, size: tuple[int, int]) -> Patch:
        """As `Region.cover`."""
        patches = [patch for patch in (fill_ring(ring, size) for ring in self.rings) if patch.mask.size]
        if len(patches) < 2:
            return patches[0] if patches else NOTHING
        top, left = min(patch.top for patch in patches), min(patch.left for patch in patches)
        bottom = max(patch.top + patch.mask.shape[0] for patch in patches)
        right = max(patch.left + patch.mask.shape[1] for patch in patches)
        mask = np.zeros((bottom - top, right - left), bool)
        for patch in patches:
            inside(mask, Patch(patch.top - top, patch.left - left, patch.mask))[patch.mask] = True
        return Patch(top, left, mask)


@dataclass(frozen=True)
class FractionalPolygon:
    """A ring whose points are fractions of the picture's width and height."""

    ring: Float[np.ndarray, "n 2"]

    def cover(self, size: tuple[int, int]) -> Patch:
        """As `Region.cover`."""
        return fill_ring(self.ring * np.array([size[1], size[0]]), size)


@dataclass(frozen=True)
class Runs:
    """A part of a picture as lengths of runs, outside and inside by turns, the first outside."""

    lengths: Int[np.ndarray, " n"]
    size: tuple[int, int]  # (height, width) of the part
    corner: tuple[int, int] = (0, 0)  # (top, left) of the part
    by_column: bool = False  # whether runs go down the columns, as COCO's do

    def cover(self, size: tuple[int, int]) -> Patch:
        """As `Region.cover`."""
        values = np.repeat(np.arange(len(self.lengths)) % 2 == 1, self.lengths)
        mask = values.reshape(self.size, order="F" if self.by_column else "C")
        return clipped(Patch(*self.corner, mask), size)


def polygon(points: Sequence[Sequence[float]] | np.ndarray, where: str) -> Float[np.ndarray, "n 2"]:
    """A closed ring of at least three points. Raises DataError, which says `where`, for what is none."""
    ring = np.asarray(points, np.float64).reshape(-1, 2)
    if len(ring) < 3:
        raise DataError(f"{where}: a polygon of {len(ring)} point(s); it needs three or more: correct or delete it")
    if not (np.abs(ring) <= FARTHEST).all():  # NaN is not either
        raise DataError(f"{where}: a polygon with a point that is no place in a picture; correct or delete it")
    return ring


def rectangle(x0: float, y0: float, x1: float, y1: float, where: str, degrees: float = 0) -> Float[np.ndarray, "4 2"]:
    """The ring of a rectangle, turned clockwise about its middle. Raises DataError as `polygon`."""
    ring = polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], where)
    return _turned(ring, ring.mean(0), degrees)


def ellipse(x: float, y: float, rx: float, ry: float, where: str, degrees: float = 0) -> Float[np.ndarray, "n 2"]:
    """The ring of an ellipse about (x, y), turned clockwise about its middle. Raises DataError as `polygon`."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    # corners lie so far outside that the polygon has the ellipse's area, not a little less
    scale = np.sqrt(2 * np.pi / (ELLIPSE_CORNERS * np.sin(2 * np.pi / ELLIPSE_CORNERS)))
    ring = np.stack([x + rx * scale * np.cos(angles), y + ry * scale * np.sin(angles)], 1)
    return _turned(polygon(ring, where), np.array([x, y]), degrees)


def _turned(ring: np.ndarray, about: np.ndarray, degrees: float) -> np.ndarray:
    """A ring turned clockwise as one sees it: y grows downwards."""
    if not degrees:
        return ring
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (ring - about) @ np.array([[cos, sin], [-sin, cos]]) + about


def clipped(patch: Patch, size: tuple[int, int]) -> Patch:
    """The part of a patch that lies in a picture of this size."""
    height, width = size
    top, left = max(patch.top, 0), max(patch.left, 0)
    mask = patch.mask[top - patch.top :, left - patch.left :][: max(height - top, 0), : max(width - left, 0)]
    return Patch(top, left, mask) if mask.size else NOTHING


def inside(pixels: np.ndarray, patch: Patch) -> np.ndarray:
    """The pixels that a patch lies on, as a view."""
    height, width = patch.mask.shape
    return pixels[patch.top : patch.top + height, patch.left : patch.left + width]


def paint(
    marks: Sequence[Mark], order: Order, size: tuple[int, int], train_ids: Mapping[str, int], rest: int
) -> UInt8[np.ndarray, "h w"]:
    """The mask that marks make: each pixel has the class of the topmost mark on it, `rest` where there is none.

    Where an order is not said, the mark of fewest pixels lies on top, the later of two equal ones: a person before a
    wall stays whole, whoever was drawn first.
    """
    mask = np.full(size, rest, np.uint8)
    if order == "as listed":
        for mark in marks:
            _put(mask, mark, train_ids, patch := mark.region.cover(size), patch.mask)
        return mask
    owned = np.full(size, np.iinfo(np.int32).max, np.int32)  # pixels of the mark that owns a pixel
    for mark in marks:
        patch = mark.region.cover(size)
        area = int(patch.mask.sum()) + (mask.size if mark.beneath else 0)
        owner = inside(owned, patch)
        wins: Bool[np.ndarray, "h w"] = patch.mask & (area <= owner)
        owner[wins] = area
        _put(mask, mark, train_ids, patch, wins)
    return mask


def _put(mask: np.ndarray, mark: Mark, train_ids: Mapping[str, int], patch: Patch, where: np.ndarray) -> None:
    inside(mask, patch)[where] = train_ids[mark.label]
