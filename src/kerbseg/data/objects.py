"""Objects in a mask: connected pixels of one class."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import MissingExtra


def centers(mask: UInt8[np.ndarray, "h w"], train_id: int, smallest: int = 1) -> list[tuple[float, float]]:
    """(x, y) of the center of gravity of each object of a class that has at least so many pixels.

    Pixels that touch at a side or a corner are one object, so two cars behind each other count once. Raises
    MissingExtra without OpenCV.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "train") from error
    of_class = (mask == train_id).astype(np.uint8)
    _, _, stats, gravity = cv2.connectedComponentsWithStats(of_class, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]  # the first is the background
    return [(float(x), float(y)) for (x, y), area in zip(gravity[1:], areas, strict=True) if area >= smallest]
