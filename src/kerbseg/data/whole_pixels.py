"""Pictures resized as Pillow does it, and cropped, shifted and mirrored by whole pixels, each in its own way.

Both axes are apart, so a picture becomes `rows @ picture @ columns.T`: two matrices say which of its pixels fall into
each pixel of the canvas, and with how much. Where its size stays, nothing is mixed, and no sharpness is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from kerbseg.core.resize import Resample
from kerbseg.core.types import VOID

Border = Literal["black", "gray", "mirror"]
GRAY = 0.5  # what `gray` has outside
Kernel = Callable[[Tensor], Tensor]  # distance in pixels of the smaller picture -> weight


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


KERNELS: dict[Resample, Kernel] = {"bilinear": _triangle, "lanczos": _lanczos, "box": _box}


@dataclass(frozen=True)
class Axis:
    """Where one axis of a picture of `own` pixels comes to lie on a canvas."""

    own: int
    sizes: tuple[int, ...]  # it is resized to these, one after the other
    start: int  # pixel of the canvas at which it begins; negative where it is cropped
    canvas: int
    mirrored: bool = False

    def pixels(self, border: Border = "black") -> tuple[Int64[Tensor, " c"], Bool[Tensor, " c"]]:
        """For each pixel of the canvas that of the resized picture, and whether there is one."""
        size = self.sizes[-1]
        at = torch.arange(self.canvas) - self.start
        there = (at >= 0) & (at < size)
        if border == "mirror":  # the outermost pixel stands once
            at = size - 1 - ((at % max(1, 2 * size - 2)) - (size - 1)).abs()
            there = torch.ones_like(there)
        at = at.clamp(0, size - 1)
        return (size - 1 - at if self.mirrored else at), there

    def nearest(self) -> tuple[Int64[Tensor, " c"], Bool[Tensor, " c"]]:
        """For each pixel of the canvas that of the picture which lies under its middle, and whether there is one."""
        at, there = self.pixels()
        sizes = (self.own, *self.sizes)
        for before, after in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
            at = (2 * at + 1) * before // (2 * after)
        return at, there

    def mix(
        self, resample: Resample, border: Border, device: torch.device
    ) -> tuple[slice, Float[Tensor, "c m"] | None]:
        """The pixels of the picture that are read, and how much each gives to those of the canvas.

        None where no size changes, so that `pixels` says which one goes where.
        """
        if all(size == self.own for size in self.sizes):
            return slice(None), None
        at, there = (each.to(device) for each in self.pixels(border))
        sizes = (self.own, *self.sizes)
        weights = _resize_matrix(sizes[-2], sizes[-1], resample, at) * there[:, None]
        for before, after in zip(sizes[-3::-1], sizes[-2:0:-1], strict=True):
            weights = weights @ _resize_matrix(before, after, resample, torch.arange(after, device=device))
        read = weights.any(0).nonzero()[:, 0]
        part = slice(int(read.min()), int(read.max()) + 1) if len(read) else slice(0)
        return part, weights[:, part]


def place(
    image: Float[Tensor, "b 3 h w"],
    mask: UInt8[Tensor, "b *m h w"],
    axes: Sequence[tuple[Axis, Axis]],
    resample: Resample,
    border: Border = "black",
) -> tuple[Float[Tensor, "b 3 H W"], UInt8[Tensor, "b *m H W"]]:
    """Each picture and its mask, or several, along rows and columns; masks are VOID where there is no picture."""
    pictures, masks = [], []
    with torch.autocast(image.device.type, enabled=False):  # a network's bfloat16 has too few levels for a picture
        for picture, ids, (rows, columns) in zip(image, mask, axes, strict=True):
            (tall, by_row), (wide, by_column) = (each.mix(resample, border, image.device) for each in (rows, columns))
            low = _along(picture[:, tall, wide], columns, by_column, border)  # columns first, as Pillow does
            high = _along(low.mT, rows, by_row, border).mT
            (row, row_there), (column, column_there) = rows.nearest(), columns.nearest()
            there = (row_there[:, None] & column_there).to(mask.device)
            pictures.append(high + GRAY * ~there.to(high.device) if border == "gray" else high)
            masks.append(torch.where(there, ids[..., row.to(mask.device), :][..., column.to(mask.device)], VOID))
    return torch.stack(pictures), torch.stack(masks)


def _along(
    picture: Float[Tensor, "... m"], axis: Axis, weights: Float[Tensor, "c m"] | None, border: Border
) -> Float[Tensor, "... c"]:
    """A picture on the canvas, along its last axis; what a kernel overshoots is cut off, as in bytes."""
    if weights is not None:
        return (picture @ weights.to(picture).T).clamp(0, 1)
    at, there = (each.to(picture.device) for each in axis.pixels(border))
    return picture[..., at] * there


def _resize_matrix(before: int, after: int, resample: Resample, at: Int64[Tensor, " a"]) -> Float[Tensor, "a b"]:
    """What the pixels `at` of an axis of size `after` take of one of size `before`."""
    ratio = before / after
    middles = (at.double() + 0.5) * ratio
    distance = torch.arange(before, dtype=torch.float64, device=at.device) + 0.5 - middles[:, None]
    weights = KERNELS[resample](distance / max(1.0, ratio))
    return (weights / weights.sum(1, keepdim=True)).float()


def round_size(size: int, scale: float) -> int:
    """A side that has been scaled, in whole pixels."""
    return max(1, math.floor(size * scale + 0.5))
