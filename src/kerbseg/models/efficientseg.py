"""EfficientSeg (Yesilkaynak, Sahin, Unal: EfficientSeg, ECCV workshops 2020).

Kept from the authors' code, because its weights need it:
* the logits pass batch-norm and h-swish, so none is below -0.375 (`raw_logits=True` leaves both out);
* a picture kept from before a halving joins one block after the map is doubled again, not at once (fig. 2);
* interpolation is bilinear with half-pixel centers.

The paper calls the width coefficient its 'depth parameter'. The authors trained with 20 outputs, the last for void.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.errors import InputError
from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(mean=(0.2870, 0.3257, 0.2854), std=(0.1879, 0.1908, 0.1880))  # Minicity's training set


class Row(NamedTuple):
    """One block of the encoder: MobileNetV3-Large's table, without its classifier."""

    kernel: int
    expansion: float  # of the width of its input
    channels: int  # at width 1
    attends: bool  # squeeze and excitation
    swish: bool  # h-swish; else ReLU
    stride: int


ENCODER = (
    Row(3, 1, 16, False, False, 1),
    Row(3, 4, 24, False, False, 2),
    Row(3, 3, 24, False, False, 1),
    Row(5, 3, 40, True, False, 2),
    Row(5, 3, 40, True, False, 1),
    Row(5, 3, 40, True, False, 1),
    Row(3, 6, 80, False, True, 2),
    Row(3, 2.5, 80, False, True, 1),
    Row(3, 2.3, 80, False, True, 1),
    Row(3, 2.3, 80, False, True, 1),
    Row(3, 6, 112, True, True, 1),
    Row(3, 6, 112, True, True, 1),
    Row(5, 6, 160, True, True, 2),
    Row(5, 6, 160, True, True, 1),
    Row(5, 6, 160, True, True, 1),
)


def divisible(channels: float) -> int:
    """The multiple of 8 nearest to `channels`, never more than a tenth below (MobileNet's rounding)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """The map with every channel scaled by a gate in 0..1 that looks at the whole picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = divisible(channels // 4)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Hardsigmoid())

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x * self.gate(x.mean(dim=(2, 3)))[:, :, None, None]


class InvertedResidual(nn.Module):
    """MobileNetV3's block: widens, convolves each channel by itself, narrows; added to its input if it fits."""

    def __init__(self, inputs: int, hidden: int, outputs: int, row: Row, stride: int = 1) -> None:
        super().__init__()
        activation = nn.Hardswish if row.swish else nn.ReLU
        depthwise = nn.Conv2d(hidden, hidden, row.kernel, stride, row.kernel // 2, groups=hidden, bias=False)
        attention = SqueezeExcite(hidden) if row.attends else nn.Identity()
        # a block that need not widen attends after its activation, the others before
        widen: list[nn.Module] = []
        attend: list[nn.Module] = [activation(), attention]
        if inputs != hidden:
            widen = [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation()]
            attend = [attention, activation()]
        narrow = [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*widen, depthwise, nn.BatchNorm2d(hidden), *attend, *narrow)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        y = self.layers(x)
        return x + y if self.residual else y


class ConvUnit(nn.Sequential):
    """A convolution, normalized, with h-swish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.Hardswish(),
        )


Head = Callable[[int, int], nn.Module]  # inputs, classes
raw_head: Head = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False)
published_head: Head = partial(ConvUnit, kernel=3)

double = partial(F.interpolate, scale_factor=2.0, mode="bilinear", align_corners=False)


class EfficientSeg(SegmentationNet):
    """Class logits at the picture's size, a multiple of 32: MobileNetV3-Large and its mirror image (fig. 2)."""

    def __init__(self, classes: int, width: float, head: Head = published_head) -> None:
        super().__init__()
        first = inputs = divisible(16 * width)
        self.stem = ConvUnit(3, first, 3, stride=2)
        encoder, decoder = [], []
        for row, after in zip(ENCODER, (*ENCODER[1:], None), strict=True):
            outputs, hidden = divisible(row.channels * width), divisible(inputs * row.expansion)
            encoder.append(InvertedResidual(inputs, hidden, outputs, row, row.stride))
            joined = 2 * outputs if after and after.stride == 2 else outputs  # what was kept comes beside it
            decoder.append(InvertedResidual(joined, hidden, inputs, row))
            inputs = outputs
        self.encoder = nn.ModuleList(encoder)
        self.middle = nn.Sequential(ConvUnit(inputs, hidden, 1), ConvUnit(hidden, inputs, 1))
        self.decoder = nn.ModuleList(reversed(decoder))
        self.head = head(first, classes)
        self.apply(_start)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=32)
        if self.training and image.numel() == 3 * 32 * 32:
            raise InputError(
                "EfficientSeg cannot train on one picture of 32x32: its deepest map leaves batch-norm one value per"
                " channel; use larger pictures, batches of 2 or more, or eval()"
            )
        x = self.stem(image)
        kept = []
        for row, block in zip(ENCODER, self.encoder, strict=True):
            if row.stride == 2:
                kept.append(x)
            x = block(x)
        x = self.middle(x)
        for row, block in zip(reversed(ENCODER), self.decoder, strict=True):
            x = block(double(x) if row.stride == 2 else x)
            if row.stride == 2:
                x = torch.cat([x, kept.pop()], dim=1)
        return self.head(double(x))


def _start(module: nn.Module) -> None:
    # as the authors' training script does
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight)


_register = partial(register, paper="efficientseg", input=(384, 768), stride=32, preprocessing=PREPROCESSING)


@_register(parameters=13_469_462, macs=8_051_306_496, main=False)
def efficientseg(classes: int = 19, width: float = 1.5, raw_logits: bool = False) -> EfficientSeg:
    """EfficientSeg of any width."""
    return EfficientSeg(classes, width, raw_head if raw_logits else published_head)


@_register(parameters=13_469_462, macs=8_051_306_496)
def efficientseg_1_5(classes: int = 19, raw_logits: bool = False) -> EfficientSeg:
    """EfficientSeg (1.5), with as many parameters as the challenge's U-Net (table 1)."""
    return EfficientSeg(classes, 1.5, raw_head if raw_logits else published_head)


@_register(parameters=209_553_350, macs=103_438_559_232)
def efficientseg_6_0(classes: int = 19, raw_logits: bool = False) -> EfficientSeg:
    """EfficientSeg (6.0), fourth in the challenge (table 1)."""
    return EfficientSeg(classes, 6.0, raw_head if raw_logits else published_head)
