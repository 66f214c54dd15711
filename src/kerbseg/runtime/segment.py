"""Class ids of one picture of any size, at its own size, from any runtime."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.runtime.protocols import Runtime, SupportsConfidence

InputSizePolicy = Literal["trained", "own"] | tuple[int, int]

WIDEST = 4  # a strip is never made wider than this many times the width that the network was trained on


def network_size(size: tuple[int, int], runtime: Runtime, input_size: InputSizePolicy = "trained") -> tuple[int, int]:
    """Height and width at which a picture of `size` is looked at.

    'trained': the runtime's one size if it has one, else the height that the network was trained on, the picture's
    proportions kept, since a network knows things at the size it has seen them (a strip is looked at lower than that,
    lest it become endlessly wide); 'own': the picture as it is; or a size. Raises KerbsegError for another word, and
    for a size that is not the runtime's one.
    """
    if input_size == "trained":
        if runtime.size is not None:
            return runtime.size
        trained = runtime.card.input_size
        scale = min(trained[0] / size[0], WIDEST * trained[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    if isinstance(input_size, str) and input_size != "own":
        raise KerbsegError(
            f"unknown input size {input_size!r}; {did_you_mean(input_size, ('trained', 'own'))}, or a size"
        )
    asked = size if input_size == "own" else (input_size[0], input_size[1])
    if min(asked) < 1:
        raise KerbsegError(f"input size {asked[0]}x{asked[1]} has no pixels; give (height, width), or 'trained'")
    if runtime.size not in (None, asked):
        own = "x".join(map(str, runtime.size or ()))
        raise KerbsegError(
            f"this {runtime.name} file takes pictures of {own} (HxW) only, not of {asked[0]}x{asked[1]}; leave the"
            " input size out, or export it for that size"
        )
    return asked


def segment(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy = "trained"
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, at its own size."""
    size = (picture.shape[0], picture.shape[1])
    ids = runtime(_resized(runtime, picture, input_size))[0]
    return resize_ids(ids, size)


def segment_with_confidence(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy = "trained"
) -> tuple[UInt8[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """As `segment`, with the probability of each pixel's class. Raises KerbsegError where a runtime gives ids alone."""
    if not isinstance(runtime, SupportsConfidence):
        raise KerbsegError(f"{runtime.name} gives class ids without confidence; use the bundle (.safetensors)")
    size = (picture.shape[0], picture.shape[1])
    ids, confidence = runtime.with_confidence(_resized(runtime, picture, input_size))
    return resize_ids(ids[0], size), resize_ids(confidence[0], size)


def _resized(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy
) -> UInt8[np.ndarray, "1 H W 3"]:
    size = network_size((picture.shape[0], picture.shape[1]), runtime, input_size)
    return resize_picture(picture, size)[None]
