"""Where classes meet, as a picture of lines that a network can learn beside the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import MissingExtra


@dataclass(frozen=True)
class EdgeLines:
    """Lines of 1 where two classes, or a class and void, meet in a mask; 0 elsewhere (PIDNet's code).

    Canny's detector on the train ids, with thresholds so low that any difference is an edge, then a line of `width`
    pixels, of which one more lies at the left and above where it is even. Raises MissingExtra without OpenCV.
    """

    width: int = 4
    border: int = 0  # pixels at each side of the mask without lines, but for the width of those beside them

    def __call__(self, mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra("opencv-python-headless", "train") from error
        edges = cv2.Canny(np.ascontiguousarray(mask), 0.1, 0.2)
        if self.border:
            inside = edges[self.border : -self.border, self.border : -self.border]
            edges = np.pad(inside, self.border) if inside.size else np.zeros_like(edges)
        wide = cv2.dilate(edges, np.ones((self.width, self.width), np.uint8))
        return (wide > 50).astype(np.uint8)
