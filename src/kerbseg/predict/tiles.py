"""Class ids of a picture that is too large to be looked at as a whole: tile by tile, at its own size.

A network that looks at most so many pixels far (half of its receptive field) says of a pixel that is farther than that
from a tile's edge what it says of it in the whole picture, as long as tiles begin at multiples of its stride. So with
an `overlap` of that many pixels there is no seam. Two kinds of network have no such number: those whose last
interpolation aligns corners (MiniNet and U-Net here), where each pixel's place depends on the picture's size, and those
that pool over the whole picture (LiteSeg, EfficientSeg). Their tiles agree but for some pixels at borders of classes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.runtime import Runtime

STEP = 64  # tiles begin at multiples of it, and so of every network's stride


def segment_tiles(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], tile: tuple[int, int] | None = None, overlap: int = 128
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, looked at in tiles of (height, width) pixels.

    Memory is that of one tile beside the picture and its ids. Each tile is looked at `overlap` pixels beyond what is
    kept of it, to all sides. A file that takes pictures of one size has tiles of that size, and no other.

    Raises KerbsegError for tiles without a middle, or that are no multiple of 64; InputError for a picture smaller than
    the only size of a file.
    """
    tile = tile or runtime.size
    if tile is None:
        raise KerbsegError("this model takes pictures of any size; give that of its tiles, such as (1024, 1024)")
    if runtime.size not in (None, tile):
        raise KerbsegError(f"this file takes pictures of {_hw(runtime.size)} only, not tiles of {_hw(tile)}")
    if overlap < 0 or overlap % STEP or any(side % STEP or side <= 2 * overlap for side in tile):
        raise KerbsegError(
            f"tiles of {_hw(tile)} with an overlap of {overlap}: give multiples of {STEP}, and more than twice the"
            " overlap"
        )
    height, width = picture.shape[:2]
    if runtime.size is not None and (height < tile[0] or width < tile[1]):
        raise InputError(f"a picture of {height}x{width} is smaller than the tiles of {_hw(tile)}; look at it whole")
    ids = np.empty((height, width), np.uint8)
    whole = runtime.size is not None
    for top, bottom, first_row, last_row in _spans(height, tile[0], overlap, whole):
        for left, right, first_column, last_column in _spans(width, tile[1], overlap, whole):
            seen = runtime(np.ascontiguousarray(picture[None, top:bottom, left:right]))[0]
            kept = seen[first_row - top : last_row - top, first_column - left : last_column - left]
            ids[first_row:last_row, first_column:last_column] = kept
    return ids


def _spans(length: int, tile: int, overlap: int, whole: bool) -> Iterator[tuple[int, int, int, int]]:
    """Of the tiles along one side: where each begins and ends, and what of it is kept.

    The last one ends with the picture: it is shorter than the others, or where tiles must be whole begins earlier,
    which is at a multiple of the stride only where the picture's side is one.
    """
    begin, kept = 0, 0
    while begin + tile < length:
        end = begin + tile
        yield begin, end, kept, end - overlap
        kept = end - overlap
        begin = kept - overlap
    yield (length - tile if whole else begin), length, kept, length


def _hw(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
