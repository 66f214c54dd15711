"""Where the pixels of a frame were in the frame before it: dense optical flow, and where it can be trusted."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from kerbseg.core.errors import MissingExtra

SMALLEST = 16  # rows or columns that DIS can look at

Gray = UInt8[np.ndarray, "h w"]
Flow = Float32[np.ndarray, "h w 2"]  # columns, rows


class OpticalFlow:
    """Aligns frames by DIS optical flow (Kroeger et al., ECCV 2016), there and back; `effort` is OpenCV's preset."""

    def __init__(self, effort: Literal["ultrafast", "fast", "medium"] = "medium") -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra("opencv-python-headless", "video") from error
        self._flow = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{effort.upper()}"))
        self._cv2 = cv2

    def gray(self, picture: UInt8[np.ndarray, "h w 3"]) -> Gray:
        """What the flow is seen in."""
        gray: np.ndarray = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)
        return gray

    def __call__(self, now: Gray, before: Gray) -> tuple[Flow, Bool[np.ndarray, "h w"]]:
        """The way from each pixel to where it was, and whether it is trusted: it leads inside and back again."""
        if now.shape != before.shape or min(now.shape) < SMALLEST:
            return np.zeros((*now.shape, 2), np.float32), np.zeros(now.shape, bool)
        forward = self._flow.calc(now, before, None)
        rows, columns, inside = nearest_pixel(forward)
        backward = self._flow.calc(before, now, None)[rows, columns]
        off = np.square(forward + backward).sum(2)
        # the usual tolerance of such a check (Sundaram, Brox, Keutzer, ECCV 2010): half a pixel, more for long ways
        return forward, inside & (off < 0.5 + 0.01 * (np.square(forward).sum(2) + np.square(backward).sum(2)))

    def warp(self, values: Float32[np.ndarray, "h w"], forward: Flow) -> Float32[np.ndarray, "h w"]:
        """Values of the frame before, at the pixels of this one; bilinear."""
        rows, columns = np.indices(values.shape, np.float32)
        warped: np.ndarray = self._cv2.remap(
            values,
            columns + forward[..., 0],
            rows + forward[..., 1],
            self._cv2.INTER_LINEAR,
            borderMode=self._cv2.BORDER_REPLICATE,
        )
        return warped


def nearest_pixel(forward: Flow) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, "h w"]]:
    """Row and column of the pixel that the way from each leads to, kept inside, and whether it was."""
    height, width = forward.shape[:2]
    rows, columns = np.indices((height, width))
    to_row = np.rint(rows + forward[..., 1]).astype(np.intp)
    to_column = np.rint(columns + forward[..., 0]).astype(np.intp)
    inside = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
    return to_row.clip(0, height - 1), to_column.clip(0, width - 1), inside
