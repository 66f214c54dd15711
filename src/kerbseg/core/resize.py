"""Pictures and ids at another size; the one resampling that training, evaluation and prediction share."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

Resample = Literal["bilinear", "lanczos", "box"]
"""How pixels are mixed where a picture's size changes; when it shrinks, every pixel has its share in the result."""

_PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def resize_picture(
    picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], resample: Resample = "bilinear"
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture at (height, width); when it shrinks, every pixel has its share in the result."""
    if picture.shape[:2] == size:
        return picture
    return np.array(Image.fromarray(picture).resize(size[::-1], _PILLOW[resample]))


def resize_ids(ids: Shaped[np.ndarray, "h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "H W"]:
    """Ids (or the float32 confidence in them) at (height, width), of the nearest pixel each: ids cannot be mixed."""
    if ids.shape == size:
        return ids
    return np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
