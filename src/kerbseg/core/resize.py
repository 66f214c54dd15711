"""Pictures and ids at another size; the one resampling that training, evaluation and prediction share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image


def resize_picture(picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The picture at (height, width), bilinear; when it shrinks, every pixel has its share in the result."""
    if picture.shape[:2] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def resize_ids(ids: Shaped[np.ndarray, "h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "H W"]:
    """Ids (or the float32 confidence in them) at (height, width), of the nearest pixel each: ids cannot be mixed."""
    if ids.shape == size:
        return ids
    return np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
