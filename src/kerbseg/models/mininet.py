"""MiniNet-v2 (Alonso, Riazuelo, Murillo: MiniNet, T-RO 2020), as its authors trained it in TensorFlow.

Kept from the authors' network, because its weights need it:
* TensorFlow's 'SAME' padding: a strided convolution pads right and bottom only, a transposed one loses its last
  row and column;
* batch-norm eps 1e-3, momentum 0.99;
* pixels in BGR order, scaled to -0.5..0.5;
* dilations 1,1,1,2,1,8,1,16 in the last eight modules (table I prints 1,1,1,2,1,4,1,8);
* the last upsampling is bilinear with aligned corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(channels="bgr", mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # TensorFlow's momentum .99


def depthwise(channels: int, dilation: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3x3 convolution that keeps every channel to itself."""
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=bias)


class Downsample(nn.Module):
    """Halves the grid: a strided convolution beside max-pooling (sec. IV-A)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, bias=False)
        self.bn = BatchNorm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h/2 w/2"]:
        x = torch.cat([self.conv(F.pad(x, (0, 1, 0, 1))), F.max_pool2d(x, 2)], dim=1)
        return F.relu(self.bn(x))


class Separable(nn.Module):
    """Residual module of one depthwise-separable convolution; nothing stands between its two parts (sec. IV-A)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = depthwise(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = BatchNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.bn(self.pointwise(self.depthwise(x))))


class MultiDilation(nn.Module):
    """Residual module that sees near and far at once: two parallel depthwise convolutions, summed (fig. 2).

    Both exist even where `dilation` is 1, as in the authors' network.
    """

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.near = depthwise(channels)
        self.near_bn = BatchNorm(channels)
        self.far = depthwise(channels, dilation)
        self.far_bn = BatchNorm(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = BatchNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        both = F.relu(self.near_bn(self.near(x))) + F.relu(self.far_bn(self.far(x)))
        return F.relu(x + self.dropout(self.bn(self.pointwise(both))))


class Transposed(nn.ConvTranspose2d):
    """Doubles the grid as TensorFlow does: the full result is one row and column too large; they are dropped."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2*h 2*w"]:  # type: ignore[override]
        return super().forward(x)[..., :-1, :-1]


class Upsample(nn.Module):
    """Doubles the grid with a transposed convolution, normalized and rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = Transposed(inputs, outputs)
        self.bn = BatchNorm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2*h 2*w"]:
        return F.relu(self.bn(self.deconv(x)))


class MiniNetV2(SegmentationNet):
    """Class logits at half the picture's size (table I), upsampled to the whole; sizes are multiples of 8."""

    align_corners = True

    def __init__(self, classes: int, down: int, dilations: Sequence[int], up: int, dropout: float = 0.25) -> None:
        super().__init__()
        self.downsample = nn.Sequential(Downsample(3, 16), Downsample(16, 64), *(Separable(64) for _ in range(down)))
        self.features = nn.Sequential(
            Downsample(64, 128), *(MultiDilation(128, dilation, dropout) for dilation in dilations)
        )
        self.refinement = nn.Sequential(Downsample(3, 16), Downsample(16, 64))
        self.upsampling = Upsample(128, 64)
        self.fusion = nn.Sequential(*(Separable(64) for _ in range(up)))
        self.output = Transposed(64, classes)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/2 w/2"]:
        """Logits at half the picture's size, where the network ends."""
        check_input(image, stride=8)
        coarse = self.upsampling(self.features(self.downsample(image)))  # b 64 h/4 w/4
        return self.output(self.fusion(coarse + self.refinement(image)))


@register(
    paper="mininet",
    parameters=515_345,
    macs=6_402_342_912,
    input=(512, 1024),
    stride=8,
    preprocessing=PREPROCESSING,
)
def mininet_v2(classes: int = 19, dropout: float = 0.25) -> MiniNetV2:
    """MiniNet-v2, for computers with a GPU (table I)."""
    first, last = (1, 2, 1, 4, 1, 8, 1, 16), (1, 1, 1, 2, 1, 8, 1, 16)
    return MiniNetV2(classes, down=10, dilations=first + last, up=4, dropout=dropout)


@register(
    paper="mininet",
    parameters=272_785,
    macs=835_125_248,
    input=(256, 512),
    stride=8,
    preprocessing=PREPROCESSING,
)
def mininet_v2_cpu(classes: int = 19, dropout: float = 0.25) -> MiniNetV2:
    """MiniNet-v2-cpu: table I without m3-m10, m16-m25 and m28-m29."""
    return MiniNetV2(classes, down=2, dilations=(1, 2, 1, 4, 1, 8), up=2, dropout=dropout)
