"""How far the view has moved since the frame before, and whether it is still the same shot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.predict.opencv import cv2_module
from kerbseg.predict.temporal.optical_flow import SMALLEST

WIDTH = 480
"""Columns at which frames are compared, and in whose pixels motion is counted."""

CUT_DIFFERENCE, CUT_LIKENESS = 40, 0.3
"""A cut: the median pixel differs by more (of 255), and the thumbnails are less alike (cosine)."""

THUMBNAIL = (12, 16)  # rows, columns

Gray = UInt8[np.ndarray, "h w"]
Thumbnail = Float32[np.ndarray, " n"]


@dataclass(frozen=True)
class Motion:
    """What happened since the frame before."""

    pixels: float = 0.0  # median length of the flow, in pixels of a picture 480 wide
    cut: bool = False


class MotionMeter:
    """Compares each frame with the one before it, by dense optical flow (DIS, the fast preset)."""

    def __init__(self) -> None:
        cv2 = cv2_module()
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: tuple[Gray, Thumbnail] | None = None

    def add(self, gray: Gray, small: Thumbnail) -> Motion:
        """Of the next frame; one of another size begins a new shot."""
        before, self._before = self._before, (gray, small)
        if before is None:
            return Motion()
        if before[0].shape != gray.shape:
            return Motion(cut=True)
        cv2 = cv2_module()
        if likeness(small, before[1]) < CUT_LIKENESS and _median_difference(gray, before[0]) > CUT_DIFFERENCE:
            return Motion(cut=True)
        if min(gray.shape) < SMALLEST:
            return Motion()
        flow = self._flow.calc(before[0], gray, None)
        lengths = cv2.magnitude(flow[..., 0], flow[..., 1])
        return Motion(float(np.median(lengths)) * WIDTH / gray.shape[1])


def analyzed(picture: UInt8[np.ndarray, "h w 3"]) -> Gray:
    """The picture in gray, no wider than 480; every pixel has its share in the result."""
    cv2 = cv2_module()
    gray: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    height, width = gray.shape
    if width <= WIDTH:
        return gray
    smaller: np.ndarray = cv2.resize(gray, (WIDTH, max(1, round(height * WIDTH / width))), interpolation=cv2.INTER_AREA)
    return smaller


def thumbnail(gray: Gray) -> Thumbnail:
    """16 x 12 gray values less their mean, of length 1; zeros of a picture of one gray."""
    cv2 = cv2_module()
    small = cv2.resize(gray, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / np.float32(length) if length > 1e-3 else np.zeros_like(small)


def likeness(one: Thumbnail, other: Thumbnail) -> float:
    """The cosine between two thumbnails, -1..1; 0 with one that shows nothing."""
    return float(one @ other)


def _median_difference(one: Gray, other: Gray) -> float:
    return float(np.median(cv2_module().absdiff(one, other)))
