"""How much a segmentation flickers: the share of pixels that change class between aligned frames of a video.

Two frames that follow each other are aligned by dense optical flow (DIS). A pixel counts where the flow leads inside
the frame before and the way back ends where it began; it changes where its class is not at that place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.predict.temporal.optical_flow import SMALLEST, Flow, OpticalFlow, nearest_pixel

HEIGHT = 360
"""Rows at which frames are compared; larger ones are made smaller, ids by their nearest pixel."""

PROTOCOL = (
    f"DIS optical flow (medium) between successive frames at {HEIGHT} rows at most; counted: pixels whose flow leads"
    " inside and returns to within sqrt(0.5 + 0.01 (|there|^2 + |back|^2)) pixels; changed: no pixel of its class"
    " within one pixel of where it was"
)


@dataclass(frozen=True)
class Flicker:
    """Shares over all pairs of frames together."""

    share: float | None  # of the counted pixels, those that changed; None where none counted
    counted: float | None  # of all pixels
    pairs: int

    def to_dict(self) -> dict[str, Any]:
        """With its protocol."""
        return {**asdict(self), "protocol": PROTOCOL}

    def __str__(self) -> str:
        if self.share is None or self.counted is None:
            return "flicker not measured: no two frames could be aligned"
        return f"flicker {self.share:.2%} ({self.counted:.0%} of the pixels of {self.pairs} pairs of frames aligned)"


class FlickerMeter:
    """Compares each frame with the one before it."""

    def __init__(self) -> None:
        self._align = OpticalFlow()
        self._before: tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]] | None = None
        self._changed, self._counted, self._pixels, self._pairs = 0, 0, 0, 0

    def add(self, picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"]) -> None:
        """The next frame and its classes; one of another size is compared with nothing before it."""
        scale = min(1.0, HEIGHT / ids.shape[0])
        size = (round(ids.shape[0] * scale), max(1, round(ids.shape[1] * scale)))
        now = self._align.gray(resize_picture(picture, size)), resize_ids(ids, size)
        before, self._before = self._before, now
        if before is None or before[1].shape != size or min(size) < SMALLEST:
            return
        forward, counted = self._align(now[0], before[0])
        self._changed += int((counted & ~same_class(now[1], before[1], forward)).sum())
        self._counted += int(counted.sum())
        self._pixels += counted.size
        self._pairs += 1

    @property
    def result(self) -> Flicker:
        """So far."""
        share = self._changed / self._counted if self._counted else None
        return Flicker(share, self._counted / self._pixels if self._pixels else None, self._pairs)


def same_class(
    now: UInt8[np.ndarray, "h w"], before: UInt8[np.ndarray, "h w"], forward: Flow
) -> Bool[np.ndarray, "h w"]:
    """Where the class was there before, at the place or one pixel beside it: flow is not exact to the pixel."""
    height, width = before.shape
    rows, columns, _ = nearest_pixel(forward)
    padded = np.pad(before, 1, mode="edge")
    found = np.zeros(now.shape, bool)
    for down in range(3):
        for right in range(3):
            found |= padded[down : down + height, right : right + width][rows, columns] == now
    return found
