"""RGB pixels of whatever holds a picture in memory: arrays, tensors, PIL pictures; or one clear line why not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from kerbseg.core.errors import InputError, KerbsegError, did_you_mean
from kerbseg.data.pictures import read_rgb, rgb_pixels

if TYPE_CHECKING:
    from torch import Tensor

Channels = Literal["rgb", "bgr"]

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray | Tensor"  # the last unloaded where nobody has one
Pictures: TypeAlias = "Sequence[Picture]"

TAKEN = "a path, a PIL picture, or uint8 [h w 3], [h w 4] or [h w]; a list of them; uint8 [b h w 3]"


def checked_channels(channels: str) -> Channels:
    """The order of channels. Raises KerbsegError for one that does not exist."""
    for known in get_args(Channels):
        if channels == known:
            return known
    raise KerbsegError(f"unknown channels {channels!r}; {did_you_mean(channels, get_args(Channels))}")


def as_rgb(picture: Picture | Pictures, channels: Channels = "rgb") -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture, upright: gray becomes RGB, transparency is left out.

    `channels` is the order in arrays and tensors; files and PIL pictures know their own. Raises DataError for a file
    that cannot be read, InputError for what is no picture of 8 bits a channel.
    """
    if isinstance(picture, str | Path):
        return read_rgb(Path(picture))
    if isinstance(picture, Image.Image):
        return rgb_pixels(picture, "a PIL picture", InputError)
    if is_tensor(picture):
        return _of_array(_channels_last(_numpy(picture), _describe(picture)), channels, _describe(picture))
    if isinstance(picture, np.ndarray):
        return _of_array(picture, channels, _describe(picture))
    raise InputError(f"a predictor takes {TAKEN}; found {_describe(picture)}")


def as_batch(pictures: Picture | Pictures) -> Pictures | None:
    """The pictures of a list, a tuple, or an array or tensor with a batch dimension; None for a single picture."""
    if isinstance(pictures, np.ndarray) or is_tensor(pictures):
        return list(pictures) if pictures.ndim == 4 else None
    return pictures if isinstance(pictures, list | tuple) else None


def is_tensor(picture: object) -> TypeGuard[Tensor]:
    """Whether this is a tensor of torch, without loading torch: whoever has one has loaded it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(picture, torch.Tensor)


def _of_array(pixels: np.ndarray, channels: Channels, shown: str) -> UInt8[np.ndarray, "h w 3"]:
    if pixels.dtype != np.uint8:
        # a float picture does not say whether it is 0..1, 0..255 or normalized already
        raise InputError(f"a predictor takes pixels as uint8 0..255; found {shown}: scale, round and convert it first")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
        raise InputError(f"an array has its channels last, as [h w 3]; found {shown}: transpose(1, 2, 0) makes it so")
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise InputError(f"a predictor takes {TAKEN}; found {shown}")
    if not pixels.size:
        raise InputError(f"a picture of {pixels.shape[0]}x{pixels.shape[1]} (HxW) has no pixels")
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    # what is turned round or cut out of another array is copied: a network cannot read backwards
    return np.ascontiguousarray(pixels[..., :3] if channels == "rgb" else pixels[..., 2::-1])


def _channels_last(pixels: np.ndarray, shown: str) -> np.ndarray:
    """A tensor's pixels as [h w c]: torch has the channels first, cameras and files last."""
    if pixels.ndim != 3:
        return pixels
    first, last = (pixels.shape[axis] in (1, 3, 4) for axis in (0, 2))
    if first and last:
        raise InputError(f"a tensor may have its channels first or last; of {shown} nobody can tell: give an array")
    return pixels.transpose(1, 2, 0) if first else pixels


def _numpy(tensor: Tensor) -> np.ndarray:
    if tensor.dtype.is_floating_point:
        raise InputError(
            f"a predictor takes pixels as uint8 0..255; found {_describe(tensor)}: nobody can tell whether it is 0..1"
            " or normalized, so convert it, such as (tensor * 255).round().to(torch.uint8)"
        )
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _describe(picture: Any) -> str:
    """What an input is, for an error: its type, its numbers and its shape."""
    if isinstance(picture, np.ndarray) or is_tensor(picture):
        kind = "an array" if isinstance(picture, np.ndarray) else "a tensor"
        return f"{kind} of {str(picture.dtype).removeprefix('torch.')} {list(picture.shape)}"
    return type(picture).__name__
