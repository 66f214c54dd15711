"""ENet (Paszke, Chaurasia, Kim, Culurciello: ENet, arXiv 1606.02147), written from its paper.

From the paper: the initial block (fig. 2a), the bottleneck (fig. 2b) and the order of blocks (table 1); batch-norm and
a PReLU slope per channel between all convolutions; no bias in 1x1 convolutions; a 2x2 one where a bottleneck halves the
grid, zeros for the channels that its pooled branch lacks; maps unpooled to where their maxima lay; whole channels
dropped out, .01 before bottleneck 2.0 and .1 after; a bare transposed convolution at the end.

From the authors' code, where the paper is silent: convolutions inside a bottleneck are a quarter as wide as its result,
and have biases; the last one is 2x2. Bottleneck 5.0 unpools with the indices of 1.0; the initial block's are not kept.

Paper and code differ, and `as_code` takes the code's side: batch-norm eps 1e-3; of the 5x5 convolution taken apart the
1x5 part comes first, without a bias, and nothing stands between the two; the decoder has ReLU and drops nothing out.
With 19 outputs that makes 364,311 parameters, and 365,159 as in the paper, which prints 0.37 M. Its 3.83 GFLOPs at
640x360 are not met by either: two a multiply-accumulate, these are 3.45.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register
from kerbseg.models._unpooling import ByIndex, Unpooling

RATIO = 4  # of a bottleneck's channels to those inside it

Features = Float[Tensor, "b c h w"]
Main = Callable[[int], nn.Module]  # width -> the convolution in the middle of a bottleneck
Layer = Callable[[int], nn.Module]  # channels -> a normalization or an activation


class InitialBlock(nn.Module):
    """16 channels at half the size: 13 filters beside the pooled picture (fig. 2a)."""

    def __init__(self, norm: Layer = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1)
        self.norm = nn.Sequential(norm(16), nn.PReLU(16))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 16 h/2 w/2"]:
        return self.norm(torch.cat([self.conv(image), F.max_pool2d(image, 2)], dim=1))


def regular(width: int, dilation: int = 1) -> nn.Module:
    """A 3x3 convolution, dilated or not."""
    return nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)


def dilated(dilation: int) -> Main:
    """A 3x3 convolution with holes."""
    return lambda width: regular(width, dilation)


def asymmetric(width: int) -> nn.Module:
    """A 5x5 convolution taken apart: 5x1, then 1x5 (sec. 4)."""
    return nn.Sequential(
        nn.Conv2d(width, width, (5, 1), padding=(2, 0)),
        nn.BatchNorm2d(width),
        nn.PReLU(width),
        nn.Conv2d(width, width, (1, 5), padding=(0, 2)),
    )


def asymmetric_as_code(width: int) -> nn.Module:
    """The same pair as in the authors' code: 1x5 without bias, then 5x1, and nothing between."""
    return nn.Sequential(
        nn.Conv2d(width, width, (1, 5), padding=(0, 2), bias=False),
        nn.Conv2d(width, width, (5, 1), padding=(2, 0)),
    )


def rectified(channels: int) -> nn.Module:
    """ReLU, which is alike for all channels."""
    return nn.ReLU()


def full(width: int) -> nn.Module:
    """A transposed 3x3 convolution that doubles the grid."""
    return nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1)


class Extension(nn.Sequential):
    """The branch of a bottleneck with the filters: narrow, convolve, widen, drop out (fig. 2b)."""

    def __init__(
        self, inputs: int, outputs: int, main: Main, dropout: float, norm: Layer, act: Layer, stride: int = 1
    ) -> None:
        width = outputs // RATIO
        super().__init__(
            nn.Conv2d(inputs, width, stride, stride, bias=False), norm(width), act(width),
            main(width), norm(width), act(width),
            nn.Conv2d(width, outputs, 1, bias=False), norm(outputs),
            nn.Dropout2d(dropout),
        )  # fmt: skip


class Bottleneck(nn.Module):
    """Filters added to what they saw."""

    def __init__(
        self,
        channels: int,
        main: Main = regular,
        dropout: float = 0.1,
        norm: Layer = nn.BatchNorm2d,
        act: Layer = nn.PReLU,
    ) -> None:
        super().__init__()
        self.extension = Extension(channels, channels, main, dropout, norm, act)
        self.activation = act(channels)

    def forward(self, x: Features) -> Features:
        return self.activation(x + self.extension(x))


class Downsampling(nn.Module):
    """Filters added to the pooled map; where the maxima lay comes with it."""

    def __init__(self, inputs: int, outputs: int, dropout: float = 0.1, norm: Layer = nn.BatchNorm2d) -> None:
        super().__init__()
        self.extension = Extension(inputs, outputs, regular, dropout, norm, nn.PReLU, stride=2)
        self.activation = nn.PReLU(outputs)
        self.missing = outputs - inputs
        self.unpooling: Unpooling = ByIndex()

    def forward(self, x: Features) -> tuple[Float[Tensor, "b k h/2 w/2"], Any]:
        pooled, where = self.unpooling.pool(x)
        pooled = F.pad(pooled, (0, 0, 0, 0, 0, self.missing))
        return self.activation(pooled + self.extension(x)), where


class Upsampling(nn.Module):
    """Filters added to the map unpooled to where its maxima lay, after a 1x1 convolution in place of the zeros."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        dropout: float = 0.1,
        norm: Layer = nn.BatchNorm2d,
        act: Layer = nn.PReLU,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))
        self.extension = Extension(inputs, outputs, full, dropout, norm, act)
        self.activation = act(outputs)
        self.unpooling: Unpooling = ByIndex()

    def forward(self, x: Features, where: Any) -> Float[Tensor, "b k 2*h 2*w"]:
        size = (2 * x.shape[-2], 2 * x.shape[-1])
        return self.activation(self.unpooling.unpool(self.project(x), where, size) + self.extension(x))


def context(pair: Main, norm: Layer) -> list[nn.Module]:
    """Bottlenecks 2.1 to 2.8, and again 3.1 to 3.8 (table 1); `pair` is their asymmetric convolution."""
    middles: tuple[Main, ...] = (
        regular, dilated(2), pair, dilated(4), regular, dilated(8), pair, dilated(16),
    )  # fmt: skip
    return [Bottleneck(128, main, norm=norm) for main in middles]


class ENet(SegmentationNet):
    """Class logits at the picture's size (table 1); height and width are multiples of 8.

    Handed in: the asymmetric convolution, the normalization, and what the decoder activates and drops out with.
    """

    def __init__(self, classes: int, pair: Main, norm: Layer, decoder_act: Layer, decoder_dropout: float) -> None:
        super().__init__()
        bottleneck = partial(Bottleneck, norm=norm)
        decoding = partial(Bottleneck, norm=norm, act=decoder_act, dropout=decoder_dropout)
        up = partial(Upsampling, norm=norm, act=decoder_act, dropout=decoder_dropout)
        self.initial = InitialBlock(norm)
        self.down1 = Downsampling(16, 64, dropout=0.01, norm=norm)
        self.stage1 = nn.Sequential(*(bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = Downsampling(64, 128, norm=norm)
        self.stage2_3 = nn.Sequential(*context(pair, norm), *context(pair, norm))
        self.up4 = up(128, 64)
        self.stage4 = nn.Sequential(decoding(64), decoding(64))
        self.up5 = up(64, 16)
        self.stage5 = decoding(16)
        self.head = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=8)
        x = self.initial(image)  # b 16 h/2 w/2
        x, first = self.down1(x)  # b 64 h/4 w/4
        x, second = self.down2(self.stage1(x))  # b 128 h/8 w/8
        x = self.stage4(self.up4(self.stage2_3(x), second))  # b 64 h/4 w/4
        return self.head(self.stage5(self.up5(x, first)))


@register(paper="enet", parameters=365_159, macs=3_922_067_456, input=(512, 1024), stride=8)
def enet(classes: int = 19, as_code: bool = False) -> ENet:
    """ENet (table 1), a baseline of ERFNet, MiniNet-v2 and LiteSeg."""
    if as_code:
        return ENet(classes, asymmetric_as_code, partial(nn.BatchNorm2d, eps=1e-3), rectified, decoder_dropout=0.0)
    return ENet(classes, asymmetric, nn.BatchNorm2d, nn.PReLU, decoder_dropout=0.1)
