"""The networks between ERFNet and MiniNet-v2: the ablation of the MiniNet-v2 paper (tables II to V), rung by rung.

All have ERFNet's depth: 5 units at 64, 8 at 128, 2 at 64 and 2 at 16 channels; a unit is one of ERFNet's modules or two
of MiniNet's, the second dilated. The last rung (-M-R) is `mininet_v2` itself. No weights were published: the units are
those whose parameters and operations meet the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register
from kerbseg.models.mininet import PREPROCESSING, BatchNorm, Downsample, MultiDilation, Transposed, Upsample, depthwise

Unit = Callable[[int, int], nn.Module]  # channels, dilation

ERFNET = (2, 4, 8, 16) * 2  # dilations as in ERFNet (E)
NONE = (1,) * 8  # (0)
LEAST = (1, 2, 4, 5) * 2  # (1) the paper gives no numbers; these are the least that see 64 cells, the map's width
DOUBLE = (4, 8, 16, 32) * 2  # (2)


class FactorisedUnit(nn.Module):
    """ERFNet's block without biases (ERFNet-S)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, channels, channels, bias=False)
        d = dilation
        self.first = nn.Sequential(
            conv((3, 1), padding=(1, 0)), nn.ReLU(), conv((1, 3), padding=(0, 1)), BatchNorm(channels), nn.ReLU()
        )
        self.second = nn.Sequential(
            conv((3, 1), padding=(d, 0), dilation=(d, 1)),
            nn.ReLU(),
            conv((1, 3), padding=(0, d), dilation=(1, d)),
            BatchNorm(channels),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.second(self.first(x)))


class FactorisedDepthwiseUnit(nn.Module):
    """ERFNet's block, depthwise and separable, with batch-norm after each convolution (ERFNet-D)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*self._half(channels, 1), nn.ReLU(), *self._half(channels, dilation))

    @staticmethod
    def _half(channels: int, d: int) -> list[nn.Module]:
        conv = partial(nn.Conv2d, channels, channels, bias=False)
        return [
            conv((3, 1), padding=(d, 0), dilation=(d, 1), groups=channels),
            BatchNorm(channels),
            nn.ReLU(),
            conv((1, 3), padding=(0, d), dilation=(1, d), groups=channels),
            BatchNorm(channels),
            nn.ReLU(),
            conv(1),
            BatchNorm(channels),
        ]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.layers(x))


class StandardModule(nn.Module):
    """MiniNet's module with a standard convolution (MiniNet-v2-S)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = BatchNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.bn(self.conv(x)))


class SeparableModule(nn.Module):
    """MiniNet's module with a dilated depthwise-separable convolution (MiniNet-v2-D); the pointwise one has a bias."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = depthwise(channels, dilation)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.bn = BatchNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.bn(self.pointwise(self.depthwise(x))))


def pair(module: Unit) -> Unit:
    """Two of MiniNet's modules in the place of one of ERFNet's, the second dilated."""
    return lambda channels, dilation: nn.Sequential(module(channels, 1), module(channels, dilation))


def multi_dilation(channels: int, dilation: int) -> nn.Module:
    """MiniNet's multi-dilation module; dropout only where the feature extractor is (sec. IV-A)."""
    return MultiDilation(channels, dilation, dropout=0.25 if channels == 128 else 0.0)


class Ladder(SegmentationNet):
    """ERFNet's frame with units handed in: class logits at the picture's size; sizes are multiples of 8."""

    align_corners = True

    def __init__(self, classes: int, unit: Unit, dilations: Sequence[int] = ERFNET) -> None:
        super().__init__()
        self.first = Downsample(3, 16)
        self.downsample = nn.Sequential(Downsample(16, 64), *(unit(64, 1) for _ in range(5)))
        self.features = nn.Sequential(Downsample(64, 128), *(unit(128, dilation) for dilation in dilations))
        self.up64 = Upsample(128, 64)
        self.units64 = nn.Sequential(unit(64, 1), unit(64, 1))
        self.up16 = Upsample(64, 16)
        self.units16 = nn.Sequential(unit(16, 1), unit(16, 1))
        self.output = Transposed(16, classes)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=8)
        early = self.first(image)
        x = self.up64(self.features(self.downsample(early)))
        x = self.up16(self.units64(self.at_quarter(x, image)))
        return self.output(self.units16(self.at_half(x, early)))

    def at_quarter(self, x: Float[Tensor, "b 64 h w"], image: Tensor) -> Float[Tensor, "b 64 h w"]:
        """Where the refinement branch comes in (I)."""
        return x

    def at_half(self, x: Float[Tensor, "b 16 h w"], early: Tensor) -> Float[Tensor, "b 16 h w"]:
        """Where the skip connection comes in (S)."""
        return x


class SkipLadder(Ladder):
    """With the first downsampling added after the penultimate upsampling (table III, -S)."""

    def at_half(self, x: Float[Tensor, "b 16 h w"], early: Tensor) -> Float[Tensor, "b 16 h w"]:
        return x + early


class RefinedLadder(Ladder):
    """With a branch of two downsamplings of the picture added at 1/4 (table III, -I)."""

    def __init__(self, classes: int, unit: Unit, dilations: Sequence[int] = ERFNET) -> None:
        super().__init__(classes, unit, dilations)
        self.refinement = nn.Sequential(Downsample(3, 16), Downsample(16, 64))

    def at_quarter(self, x: Float[Tensor, "b 64 h w"], image: Tensor) -> Float[Tensor, "b 64 h w"]:
        return x + self.refinement(image)


_rung = partial(register, paper="mininet", input=(256, 512), stride=8, preprocessing=PREPROCESSING, main=False)


@_rung(parameters=2_059_570, macs=6_700_892_160)
def mininet_erfnet_s(classes: int = 19) -> Ladder:
    """ERFNet-S: ERFNet with standard (factorised) convolutions, in the paper's own frame (table II)."""
    return Ladder(classes, FactorisedUnit)


@_rung(parameters=487_090, macs=1_581_744_128)
def mininet_erfnet_d(classes: int = 19) -> Ladder:
    """ERFNet-D: factorised and depthwise-separable (table II)."""
    return Ladder(classes, FactorisedDepthwiseUnit)


@_rung(parameters=3_021_106, macs=9_821_454_336)
def mininet_v2_s(classes: int = 19) -> Ladder:
    """MiniNet-v2-S: two standard 3x3 convolutions for each of ERFNet's modules (table II)."""
    return Ladder(classes, pair(StandardModule))


@_rung(parameters=487_090, macs=1_622_638_592)
def mininet_v2_d(classes: int = 19) -> Ladder:
    """MiniNet-v2-D: two depthwise-separable convolutions for each of ERFNet's modules (tables II, III)."""
    return Ladder(classes, pair(SeparableModule))


@_rung(parameters=487_090, macs=1_622_638_592)
def mininet_v2_d_s(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-S: with a skip connection from the first downsampling (table III)."""
    return SkipLadder(classes, pair(SeparableModule))


@_rung(parameters=494_513, macs=1_690_763_264)
def mininet_v2_d_i(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-I(-E): with the refinement branch; ERFNet's dilations (tables III, IV)."""
    return RefinedLadder(classes, pair(SeparableModule))


@_rung(parameters=494_513, macs=1_690_763_264)
def mininet_v2_d_i_0(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-I-0: without dilation (table IV)."""
    return RefinedLadder(classes, pair(SeparableModule), NONE)


@_rung(parameters=494_513, macs=1_690_763_264)
def mininet_v2_d_i_1(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-I-1: the least dilation that sees the whole map (table IV)."""
    return RefinedLadder(classes, pair(SeparableModule), LEAST)


@_rung(parameters=494_513, macs=1_690_763_264)
def mininet_v2_d_i_2(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-I-2: twice ERFNet's dilation (table IV)."""
    return RefinedLadder(classes, pair(SeparableModule), DOUBLE)


@_rung(parameters=530_609, macs=1_813_446_656)
def mininet_v2_d_i_m(classes: int = 19) -> Ladder:
    """MiniNet-v2-D-I-M: multi-dilation modules everywhere (tables IV, V)."""
    return RefinedLadder(classes, pair(multi_dilation))
