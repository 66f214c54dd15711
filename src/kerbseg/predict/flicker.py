"""How much a segmentation flickers: the share of pixels that change class between aligned frames of a video.

Two frames that follow each other are aligned by dense optical flow (DIS). A pixel counts where the flow leads inside
the frame before and the way back ends where it began; it changes where its class is not at that place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from kerbseg.core.errors import MissingExtra
from kerbseg.core.resize import resize_ids, resize_picture

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
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra("opencv-python-headless", "video") from error
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._gray = lambda picture: cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self._before: tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]] | None = None
        self._changed, self._counted, self._pixels, self._pairs = 0, 0, 0, 0

    def add(self, picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"]) -> None:
        """The next frame and its classes; one of another size is compared with nothing before it."""
        scale = min(1.0, HEIGHT / ids.shape[0])
        size = (round(ids.shape[0] * scale), max(1, round(ids.shape[1] * scale)))
        now = self._gray(resize_picture(picture, size)), resize_ids(ids, size)
        before, self._before = self._before, now
        if before is None or before[1].shape != size or min(size) < 16:  # DIS needs patches
            return
        there = self._flow.calc(now[0], before[0], None)
        back = self._flow.calc(before[0], now[0], None)
        counted, places = aligned(there, back)
        self._changed += int((counted & ~same_class(now[1], before[1], places)).sum())
        self._counted += int(counted.sum())
        self._pixels += counted.size
        self._pairs += 1

    @property
    def result(self) -> Flicker:
        """So far."""
        share = self._changed / self._counted if self._counted else None
        return Flicker(share, self._counted / self._pixels if self._pixels else None, self._pairs)


Flow = Float32[np.ndarray, "h w 2"]
Places = tuple[np.ndarray, np.ndarray]


def aligned(there: Flow, back: Flow) -> tuple[Bool[np.ndarray, "h w"], Places]:
    """Which pixels' flow can be trusted, and the row and column each leads to, kept inside."""
    height, width = there.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    to_row = np.rint(rows + there[..., 1]).astype(np.intp)
    to_column = np.rint(columns + there[..., 0]).astype(np.intp)
    inside = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
    places = to_row.clip(0, height - 1), to_column.clip(0, width - 1)
    returning = back[places]
    off = np.square(there + returning).sum(2)
    # the usual tolerance of such a check (Sundaram, Brox, Keutzer, ECCV 2010): half a pixel, more for long ways
    allowed = 0.5 + 0.01 * (np.square(there).sum(2) + np.square(returning).sum(2))
    return inside & (off < allowed), places


def same_class(
    now: UInt8[np.ndarray, "h w"], before: UInt8[np.ndarray, "h w"], places: Places
) -> Bool[np.ndarray, "h w"]:
    """Where the class was there before, at the place or one pixel beside it: flow is not exact to the pixel."""
    height, width = before.shape
    padded = np.pad(before, 1, mode="edge")
    found = np.zeros(now.shape, bool)
    for down in range(3):
        for right in range(3):
            found |= padded[down : down + height, right : right + width][places] == now
    return found
