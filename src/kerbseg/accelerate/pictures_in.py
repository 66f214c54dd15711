"""The input of anyone's network: in which order it takes pixels, of which type and size, and what normalizes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8

from kerbseg.core.errors import BundleError, InputError, KerbsegError
from kerbseg.core.limits import network_pixels
from kerbseg.core.types import Preprocessing
from kerbseg.exported_card import MOST_PICTURES

Layout = Literal["nchw", "nhwc"]

DTYPES = ("float32", "float16", "uint8")
CHANNEL: dict[Layout, int] = {"nchw": 1, "nhwc": 3}  # axis of the channels


@dataclass(frozen=True)
class NetworkInput:
    """What a network takes, and what stands between it and uint8 pictures."""

    name: str
    dtype: str
    layout: Layout
    batch: int
    size: tuple[int, int]
    preprocessing: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of its tensor."""
        height, width = self.size
        return (self.batch, 3, height, width) if self.layout == "nchw" else (self.batch, height, width, 3)

    def of(self, picture: UInt8[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "b _ _ _"]:
        """A picture as the network takes it, as often as its batch is large."""
        pixels = picture[..., ::-1] if self.preprocessing.channels == "bgr" else picture
        values: np.ndarray = pixels
        if self.dtype != "uint8":
            mean, std = (np.array(each) for each in (self.preprocessing.mean, self.preprocessing.std))
            values = ((pixels / 255 - mean) / std).astype(self.dtype)
        if self.layout == "nchw":
            values = values.transpose(2, 0, 1)
        return np.ascontiguousarray(np.broadcast_to(values, self.shape))


def network_input(
    name: str,
    dtype: str,
    shape: Sequence[int | None],
    size: tuple[int, int] | None,
    preprocessing: Preprocessing,
    where: str,
) -> NetworkInput:
    """The input of a graph whose sizes may be open (None). Raises BundleError for one that takes no pictures.

    Raises InputError where `size` is not the one that the graph has, KerbsegError where it needs one.
    """
    told = [n or "?" for n in shape]
    if dtype not in DTYPES or len(shape) != 4:
        raise BundleError(
            f"{where} takes {name!r}, {dtype} {told}; a segmentation network takes {' or '.join(DTYPES)} pictures,"
            " [b 3 h w] or [b h w 3]"
        )
    layouts: list[Layout] = [each for each, axis in CHANNEL.items() if shape[axis] == 3]
    if not layouts and shape[1] is None and shape[3] is None:
        layouts = ["nchw"]
    if not layouts:
        raise BundleError(f"{where} takes {name!r} {told}; pictures have three channels, [b 3 h w] or [b h w 3]")
    own = shape[2:4] if layouts[0] == "nchw" else shape[1:3]
    batch = shape[0] or 1
    if batch > MOST_PICTURES:
        raise BundleError(f"{where} takes {batch} pictures at once; export it for {MOST_PICTURES} at most")
    plain = preprocessing == Preprocessing(channels=preprocessing.channels)
    if dtype == "uint8" and not plain:
        raise KerbsegError(f"{where} takes uint8 pictures and normalizes them itself; leave --mean and --std out")
    return NetworkInput(name, dtype, layouts[0], batch, _size(own, size, where), preprocessing)


def _size(own: Sequence[int | None], size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    if size is None and None in own:
        raise KerbsegError(f"{where} takes pictures of any size, and a cheaper last stage needs one; say --size HxW")
    if size is not None and any(None is not each != asked for each, asked in zip(own, size, strict=True)):
        has, asked = ("x".join("?" if n is None else str(n) for n in each) for each in (own, size))
        raise InputError(f"{where} takes pictures of {has} (HxW) only, not of {asked}; leave --size out, or export it")
    chosen = size or (own[0] or 0, own[1] or 0)
    try:
        return network_pixels(chosen)
    except ValueError as error:
        raise BundleError(f"{where} takes pictures of {error}") from error
