"""What a network takes: its input checked, and padded to its stride."""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.core.errors import InputError
from kerbseg.core.strides import padded_size as padded_size

Net = TypeVar("Net", bound=nn.Module)


def check_input(image: Tensor, stride: int, smallest: int = 1) -> None:
    """Refuses what a network cannot take: raises InputError naming what was found and the remedy.

    The values are looked at on the CPU only, where a sum costs next to nothing: elsewhere that would stall the device.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise InputError(f"a network takes float [b 3 h w], found {list(image.shape)}; convert gray pictures to RGB")
    if not image.is_floating_point():
        raise InputError(
            f"a network takes float [b 3 h w], normalized as its card says, found {image.dtype};"
            " convert it or use kerbseg.Predictor, which takes uint8 pictures"
        )
    height, width = image.shape[-2:]
    if height % stride or width % stride or not height or not width:
        padded = tuple(max(stride, -(-n // stride) * stride) for n in (height, width))
        raise InputError(
            f"input {height}x{width} (HxW) is no multiple of the network's stride {stride};"
            f" pad to {padded[0]}x{padded[1]} or use kerbseg.Predictor, which pads and crops"
        )
    if min(height, width) < smallest:
        raise InputError(f"input {height}x{width} (HxW) is too small for a network that needs {smallest}; enlarge it")
    if torch.compiler.is_compiling() or image.device.type != "cpu":
        return
    wide = torch.promote_types(image.dtype, torch.float32)  # the sum of a picture overflows float16
    if not torch.isfinite(image.detach().sum(dtype=wide)):
        raise InputError("the input holds NaN or infinite values; check the picture and its normalization")


def pad_to_stride(image: Float[Tensor, "b c h w"], stride: int) -> Float[Tensor, "b c H W"]:
    """The picture with its right and bottom edge repeated up to multiples of `stride`, from `SMALLEST` on."""
    height, width = padded_size((image.shape[-2], image.shape[-1]), stride)
    padding = (0, width - image.shape[-1], 0, height - image.shape[-2])
    return torch.nn.functional.pad(image, padding, mode="replicate") if any(padding) else image


def channels_last(net: Net) -> Net:
    """The same network with its weights laid out so that convolutions run faster, on CPU and GPU alike."""
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
