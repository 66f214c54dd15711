"""How well a frame can be seen: sharpness, light and clipping, against the frames just before it.

One measure is not enough: on real frames, gradient energy takes an over-exposed frame for a sharp one, and clipping
alone sees no blur. The quality is therefore the weakest of several ratios, each against the recent past, so that a
scene that is dark or smooth by itself loses nothing (keyframes.md says what was measured).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kerbseg.predict.opencv import cv2_module

RECENT = 31
"""Frames that a frame is compared with, itself included."""

BOX = 9  # pixels along which the picture is blurred again
DARK, BRIGHT = 8, 247  # gray values up to which, and from which, a pixel has lost what it showed
CLIPPED_SHARE = 0.15  # of the pixels, clipped beyond what is usual: nothing is left of the quality
LEAST = 1e-9  # of a denominator

Gray = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Measures:
    """What is measured of one gray picture; none depends on other frames."""

    gradient: float  # energy of the gradient over the variance, which a gain leaves as it is
    sharpness: float  # part of the differences between neighbors that a second blur takes away: 1 sharp, 0 blurred
    brightness: float  # mean, 0..1
    dark: float  # share of the pixels that are (nearly) black
    bright: float  # share of the pixels that are (nearly) white


def measure(gray: Gray) -> Measures:
    """The measures of a gray picture. Raises MissingExtra without OpenCV."""
    cv2 = cv2_module()
    across = cv2.Sobel(gray, cv2.CV_16S, 1, 0)
    down = cv2.Sobel(gray, cv2.CV_16S, 0, 1)
    energy = (cv2.norm(across, cv2.NORM_L2SQR) + cv2.norm(down, cv2.NORM_L2SQR)) / gray.size
    mean, deviation = (float(each[0, 0]) for each in cv2.meanStdDev(gray))
    return Measures(
        gradient=energy / max(1.0, deviation**2),
        sharpness=min(
            _lost_by_blur(gray, cv2.blur(gray, (BOX, 1)), axis=1), _lost_by_blur(gray, cv2.blur(gray, (1, BOX)), axis=0)
        ),
        brightness=mean / 255,
        dark=float(np.count_nonzero(gray <= DARK)) / gray.size,
        bright=float(np.count_nonzero(gray >= BRIGHT)) / gray.size,
    )


def _lost_by_blur(gray: Gray, blurred: Gray, axis: int) -> float:
    """Share of the differences along an axis that are gone in the blurred picture (after Crete et al., SPIE 2007)."""
    cv2 = cv2_module()
    sharp, soft = (
        cv2.absdiff(each[1:], each[:-1]) if axis == 0 else cv2.absdiff(each[:, 1:], each[:, :-1])
        for each in (gray, blurred)
    )
    lost = cv2.subtract(sharp, soft)  # of uint8: what is below 0 is 0
    return float(cv2.sumElems(lost)[0]) / max(LEAST, float(cv2.sumElems(sharp)[0]))


class QualityMeter:
    """The quality of each frame of a sequence, 0 (of no use) to 1 (as good as usual here); it looks back only."""

    def __init__(self, recent: int = RECENT) -> None:
        self._recent: deque[Measures] = deque(maxlen=recent)

    def add(self, measures: Measures) -> float:
        """The quality of the next frame."""
        self._recent.append(measures)
        return quality_of(measures, self._recent)


def quality_of(measures: Measures, recent: Sequence[Measures] | deque[Measures]) -> float:
    """The weakest of the ratios of a frame to the recent ones, itself among them; 0..1."""
    now = np.array([measures.gradient, measures.sharpness, measures.brightness, measures.bright, measures.dark])
    past = np.array([[m.gradient, m.sharpness, m.brightness, m.bright, m.dark] for m in recent])
    gradient, sharpness, brightness = np.median(past[:, :3], 0)
    usual_bright, usual_dark = np.percentile(past[:, 3:], 25, 0)
    links = (
        now[0] / max(LEAST, gradient),
        now[1] / max(LEAST, sharpness),
        now[2] / max(LEAST, brightness),
        brightness / max(LEAST, now[2]),
        1 - max(0.0, now[3] - usual_bright) / CLIPPED_SHARE,
        1 - max(0.0, now[4] - usual_dark) / CLIPPED_SHARE,
    )
    return float(min(1.0, max(0.0, min(links))))
