"""The U-Net baseline of the Minicity challenge (VIPriors 2020), after Ronneberger, Fischer, Brox: U-Net, MICCAI 2015.

Kept from the baseline's code: padded convolutions with biases, the deepest map as wide as the one above it, bilinear
doubling with aligned corners. Neither paper nor code records pixels or batch-norm of the trained baseline: we give it
EfficientSeg's mean and standard deviation, which are Minicity's, and offer it with and without batch-norm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(mean=(0.2870, 0.3257, 0.2854), std=(0.1879, 0.1908, 0.1880))  # Minicity's training set

Norm = Callable[[int], nn.Module]


class DoubleConv(nn.Sequential):
    """Two convolutions, each normalized (or not) and rectified."""

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1), norm(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1), norm(outputs), nn.ReLU(),
        )  # fmt: skip


class Up(nn.Module):
    """The map doubled, padded to the one kept from the way down, and put beside it."""

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.conv = DoubleConv(inputs, outputs, norm)

    def forward(self, x: Float[Tensor, "b c h w"], kept: Float[Tensor, "b d H W"]) -> Float[Tensor, "b k H W"]:
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        rows, columns = kept.shape[-2] - x.shape[-2], kept.shape[-1] - x.shape[-1]
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.conv(torch.cat([kept, x], dim=1))


class UNet(SegmentationNet):
    """Class logits at the picture's size; any size from 16x16 will do."""

    align_corners = True

    def __init__(self, classes: int, norm: Norm = nn.Identity) -> None:
        super().__init__()
        self.first = DoubleConv(3, 64, norm)
        self.down = nn.ModuleList(
            DoubleConv(inputs, outputs, norm) for inputs, outputs in ((64, 128), (128, 256), (256, 512), (512, 512))
        )
        self.up = nn.ModuleList(
            Up(inputs, outputs, norm) for inputs, outputs in ((1024, 256), (512, 128), (256, 64), (128, 64))
        )
        self.head = nn.Conv2d(64, classes, 1)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=1, smallest=16)
        kept = [self.first(image)]
        for block in self.down:
            kept.append(block(F.max_pool2d(kept[-1], 2)))
        x = kept.pop()
        for block in self.up:
            x = block(x, kept.pop())
        return self.head(x)


_register = partial(register, paper="efficientseg", input=(384, 768), stride=1, preprocessing=PREPROCESSING, main=False)


@_register(parameters=13_388_563, macs=139_481_579_520)
def unet_minicity(classes: int = 19) -> UNet:
    """The challenge's U-Net baseline, without batch-norm, as its class is by default."""
    return UNet(classes)


@_register(parameters=13_396_499, macs=139_481_579_520)
def unet_minicity_bn(classes: int = 19) -> UNet:
    """The challenge's U-Net baseline with batch-norm."""
    return UNet(classes, norm=nn.BatchNorm2d)
