"""Class ids of a picture that is too large to be looked at as a whole: tile by tile, at its own size.

A network that looks at most so many pixels far (half of its receptive field) says of a pixel that is farther than that
from a tile's edge what it says of it in the whole picture, as long as tiles begin at multiples of its stride. So with
an `overlap` of that many pixels there is no seam (`REACH` has the numbers). Two kinds of network have no such number:
those whose last interpolation aligns corners (MiniNet and U-Net here), where each pixel's place depends on the
picture's size, and those that pool over the whole picture (LiteSeg, EfficientSeg). Their tiles agree but for some
pixels at borders of classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from kerbseg.core.errors import InputError, KerbsegError, KerbsegWarning
from kerbseg.predict.reach import reach_of
from kerbseg.runtime import Confidence, ConfidenceKeywords, IdsOnly, Runtime, SupportsConfidence

STEP = 64  # tiles begin at multiples of it, and so of every network's stride
USUAL = 128  # pixels of overlap where nobody says how far a network looks


@dataclass(frozen=True)
class Tiles:
    """How a picture is cut, and whether the seams can be told from the whole."""

    size: tuple[int, int]  # height, width of what is looked at
    overlap: int  # pixels that are looked at beyond what is kept, to all sides
    reach: int | None = None  # how far the network looks; None where there is no such number

    @property
    def exact(self) -> bool:
        """Whether the ids are those of the whole picture; of a file of one size, in pictures of whole strides."""
        return self.reach is not None and self.overlap >= self.reach

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg predict --json` writes it."""
        return {"size": list(self.size), "overlap": self.overlap, "reach": self.reach, "exact": self.exact}


def plan_tiles(runtime: Runtime, size: tuple[int, int], overlap: int | None = None) -> Tiles:
    """Tiles of (height, width) for a network; without an `overlap`, as wide as it looks where that fits in.

    A KerbsegWarning says where seams are not exact, and what would make them so. Raises KerbsegError for tiles without
    a middle, or that are no multiple of 64, or not of the only size of a file.
    """
    reach = reach_of(runtime)
    if overlap is None:
        enough = USUAL if reach is None else -(-reach // STEP) * STEP
        overlap = max(0, min(enough, (min(size) - 1) // 2 // STEP * STEP))
    _check_tiles(runtime, size, overlap)
    tiles = Tiles(size, overlap, reach)
    if reach is None:
        warnings.warn(
            KerbsegWarning(
                f"seams of tiles are not exact: no overlap is known that is as wide as {runtime.card.model} looks; some"
                " pixels differ from those of the whole picture"
            ),
            stacklevel=2,
        )
    elif not tiles.exact:
        needed = -(-reach // STEP) * STEP
        least = 2 * needed + STEP
        warnings.warn(
            KerbsegWarning(
                f"seams of tiles are not exact: {runtime.card.model} looks {reach} pixels far, and tiles overlap by"
                f" {overlap}; an overlap of {needed} in tiles of {least}x{least} or more makes them exact"
            ),
            stacklevel=2,
        )
    return tiles


class TiledRuntime:
    """A runtime that takes pictures of any size, from one that looks at them in tiles."""

    size: tuple[int, int] | None = None

    def __init__(self, runtime: Runtime, tiles: Tiles) -> None:
        _check_tiles(runtime, tiles.size, tiles.overlap)
        self.card, self.name, self.device = runtime.card, runtime.name, runtime.device
        self.precision, self.threads = runtime.precision, runtime.threads
        self.tiles = tiles
        self._runtime = runtime

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return np.stack([self._tiled(picture, lambda tile: [self._runtime(tile)])[0] for picture in pictures])

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure they are. Raises IdsOnly where nobody says."""
        runtime = self._runtime
        if not isinstance(runtime, SupportsConfidence):
            raise IdsOnly(runtime.name)
        look = partial(runtime.with_confidence, **how)
        both = [self._tiled(picture, look) for picture in pictures]
        return np.stack([ids for ids, _ in both]), np.stack([confidence for _, confidence in both])

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """None: tiles are put together as ids. Raises KerbsegError."""
        raise KerbsegError("tiles have no logits of the whole picture; look at it whole")

    def _tiled(
        self, picture: UInt8[np.ndarray, "h w 3"], look: Callable[..., Sequence[Shaped[np.ndarray, "b h w"]]]
    ) -> list[Shaped[np.ndarray, "h w"]]:
        height, width = picture.shape[:2]
        if self.tiles.exact and self._runtime.size is not None and (height % STEP or width % STEP):
            warnings.warn(
                KerbsegWarning(
                    f"seams of tiles are not exact in pictures of {height}x{width}: the last tile of a file of one size"
                    f" ends with the picture, whose sides are no multiples of {STEP}; take the bundle for exact ones"
                ),
                stacklevel=2,
            )
        return _looked_at(self._runtime, picture, self.tiles.size, self.tiles.overlap, look)


def segment_tiles(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], tile: tuple[int, int] | None = None, overlap: int = USUAL
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
    _check_tiles(runtime, tile, overlap)
    return _looked_at(runtime, picture, tile, overlap, lambda seen: [runtime(seen)])[0]


def _check_tiles(runtime: Runtime, tile: tuple[int, int], overlap: int) -> None:
    if runtime.size not in (None, tile):
        raise KerbsegError(f"this file takes pictures of {_hw(runtime.size)} only, not tiles of {_hw(tile)}")
    if overlap < 0 or overlap % STEP or any(side % STEP or side <= 2 * overlap for side in tile):
        raise KerbsegError(
            f"tiles of {_hw(tile)} with an overlap of {overlap}: give multiples of {STEP}, and more than twice the"
            " overlap"
        )


def _looked_at(
    runtime: Runtime,
    picture: UInt8[np.ndarray, "h w 3"],
    tile: tuple[int, int],
    overlap: int,
    look: Callable[..., Sequence[Shaped[np.ndarray, "b h w"]]],
) -> list[Shaped[np.ndarray, "h w"]]:
    """What `look` says of the tiles, put together: one array for each that it returns."""
    height, width = picture.shape[:2]
    whole = runtime.size is not None
    if whole and (height < tile[0] or width < tile[1]):
        raise InputError(f"a picture of {height}x{width} is smaller than the tiles of {_hw(tile)}; look at it whole")
    results: list[np.ndarray] = []
    for top, bottom, first_row, last_row in _spans(height, tile[0], overlap, whole):
        for left, right, first_column, last_column in _spans(width, tile[1], overlap, whole):
            seen = look(np.ascontiguousarray(picture[None, top:bottom, left:right]))
            results = results or [np.empty((height, width), each.dtype) for each in seen]
            for result, each in zip(results, seen, strict=True):
                result[first_row:last_row, first_column:last_column] = each[
                    0, first_row - top : last_row - top, first_column - left : last_column - left
                ]
    return results


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
