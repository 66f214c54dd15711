"""Fast-SCNN (Poudel, Liwicki, Cipolla: Fast-SCNN, BMVC 2019, arXiv 1902.04502). Its authors published no code.

`fast_scnn` is the paper where it speaks: modules, channels, strides and repeats (table 1); MobileNetV2's bottlenecks
with ReLU (table 2); a depthwise convolution of dilation 4 in the fusion (table 3); nothing between the depthwise and
the pointwise half of a separable convolution; training heads at the end of the first and of the second module.

Decided here, as the paper is silent: both halves of a separable convolution are normalized; the first convolution is
padded; only the last one has a bias; the pyramid has 1, 2, 3 and 6 parts a side, each made 32 channels wide,
normalized and rectified, enlarged and put beside its input, before a 1x1 convolution to 128; corners are not aligned;
features are enlarged to the size of those they meet, so any size will do; a tenth is dropped out before the last layer;
a head is a 3x3 convolution of 32 channels, normalized and rectified, the same dropout and a 1x1 one with a bias.

The paper prints 1.11 M parameters and not what it counts; these are 1,137,795. The public layout below has 1,138,051,
or 1,114,371 where its normalization is not counted, or 1,105,027 where its pyramid puts four branches side by side
without its input and without a convolution behind. The last two round to 1.11, and nothing decides between them.

`fast_scnn_public` is the layout that a public PyTorch version (github.com/Tramac/Fast-SCNN-pytorch) and weights in
circulation have, from which it differs so: the first convolution is not padded; the halves of a separable convolution
have ReLU between them; nothing dilates in the fusion, whose 1x1 convolutions have biases; corners are aligned; one head
alone, on the first module's map. It takes multiples of 32.
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
from kerbseg.models._net import SegmentationNet, resize
from kerbseg.models._pooling import average_parts, check_batch
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
BINS = (1, 2, 3, 6)  # parts along a side of the pyramid's averages
DROPOUT = 0.1

Features = Float[Tensor, "b c h w"]
Separable = Callable[..., nn.Module]  # inputs, outputs, stride=1


class ConvUnit(nn.Sequential):
    """A convolution, normalized and rectified."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None, groups: int = 1
    ) -> None:
        around = kernel // 2 if padding is None else padding
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, around, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class SeparableConv(nn.Sequential):
    """Each channel by itself, then a mix of the channels; both normalized, `between` them what is handed in."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, between: type[nn.Module] = nn.Identity) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            between(),
            *ConvUnit(inputs, outputs),
        )


class LinearBottleneck(nn.Module):
    """Widens sixfold, convolves each channel by itself, narrows without activation (table 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        hidden = 6 * inputs
        self.block = nn.Sequential(
            ConvUnit(inputs, hidden),
            ConvUnit(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Features) -> Float[Tensor, "b k H W"]:
        y = self.block(x)
        return x + y if self.residual else y


def bottlenecks(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Three of them, the first of which may halve the grid."""
    return nn.Sequential(
        LinearBottleneck(inputs, outputs, stride),
        LinearBottleneck(outputs, outputs),
        LinearBottleneck(outputs, outputs),
    )


class PyramidPooling(nn.Module):
    """The map beside the averages of its parts, made as narrow as before."""

    def __init__(self, channels: int, width: int, align_corners: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ConvUnit(channels, width) for _ in BINS)
        self.out = ConvUnit(channels + len(BINS) * width, channels)
        self.align_corners = align_corners

    def forward(self, x: Features) -> Features:
        check_batch(x, self.training)
        averages = [
            resize(stage(average_parts(x, parts)), (x.shape[-2], x.shape[-1]), self.align_corners)
            for parts, stage in zip(BINS, self.stages, strict=True)
        ]
        return self.out(torch.cat([x, *averages], dim=1))


class FeatureFusion(nn.Module):
    """Deep features, enlarged, convolved and added to shallow ones (table 3)."""

    def __init__(self, deep: int, shallow: int, outputs: int, dilation: int, bias: bool, align_corners: bool) -> None:
        super().__init__()
        self.dwconv = nn.Sequential(
            nn.Conv2d(deep, deep, 3, padding=dilation, dilation=dilation, groups=deep, bias=False),
            nn.BatchNorm2d(deep),
            nn.ReLU(),
        )
        self.conv_lower_res = nn.Sequential(nn.Conv2d(deep, outputs, 1, bias=bias), nn.BatchNorm2d(outputs))
        self.conv_higher_res = nn.Sequential(nn.Conv2d(shallow, outputs, 1, bias=bias), nn.BatchNorm2d(outputs))
        self.align_corners = align_corners

    def forward(self, deep: Float[Tensor, "b c p q"], shallow: Float[Tensor, "b s h w"]) -> Float[Tensor, "b k h w"]:
        enlarged = resize(deep, (shallow.shape[-2], shallow.shape[-1]), self.align_corners)
        return F.relu(self.conv_lower_res(self.dwconv(enlarged)) + self.conv_higher_res(shallow))


class Head(nn.Sequential):
    """Class logits on the grid it is given, for training alone."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__(*ConvUnit(inputs, 32, 3), nn.Dropout(DROPOUT), nn.Conv2d(32, classes, 1))


class FastSCNN(SegmentationNet):
    """Class logits at 1/8 of the picture's size (table 1), rounded up.

    Handed in: what a separable convolution is, the first one's padding, how the features are fused, and the training
    heads: name -> channels of the map it sees, `aux_global` the second module's, any other the first's.
    """

    def __init__(
        self,
        classes: int,
        separable: Separable,
        padding: int,
        fusion: Callable[..., nn.Module],
        align_corners: bool,
        stride: int,
        heads: dict[str, int],
    ) -> None:
        super().__init__()
        self.align_corners, self.stride, self.heads = align_corners, stride, tuple(heads)
        self.learning_to_downsample = nn.Sequential(
            ConvUnit(3, 32, 3, stride=2, padding=padding), separable(32, 48, stride=2), separable(48, 64, stride=2)
        )
        self.global_feature_extractor = nn.Sequential(
            bottlenecks(64, 64, stride=2),
            bottlenecks(64, 96, stride=2),
            bottlenecks(96, 128, stride=1),
            PyramidPooling(128, 32, align_corners),
        )
        self.feature_fusion = fusion(deep=128, shallow=64, outputs=128, align_corners=align_corners)
        self.classifier = nn.Sequential(
            separable(128, 128), separable(128, 128), nn.Dropout(DROPOUT), nn.Conv2d(128, classes, 1)
        )
        for name, channels in heads.items():
            self.add_module(name, Head(channels, classes))

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits at 1/8 of the picture's size."""
        check_input(image, self.stride)
        shallow = self.learning_to_downsample(image)  # b 64 h/8 w/8
        deep = self.global_feature_extractor(shallow)  # b 128 h/32 w/32
        for name in self.heads:
            self.get_submodule(name)(deep if name == GLOBAL else shallow)
        return self.classifier(self.feature_fusion(deep, shallow))


GLOBAL = "aux_global"
_register = partial(register, paper="fast_scnn", input=(512, 1024), preprocessing=PREPROCESSING)


@_register(parameters=1_137_795, parameters_with_heads=1_194_473, macs=1_677_565_952, stride=1)
def fast_scnn(classes: int = 19, heads: bool = False) -> FastSCNN:
    """Fast-SCNN (table 1), as we read its paper."""
    return FastSCNN(
        classes,
        separable=SeparableConv,
        padding=1,
        fusion=partial(FeatureFusion, dilation=4, bias=False),
        align_corners=False,
        stride=1,
        heads={"aux_downsample": 64, GLOBAL: 128} if heads else {},
    )


@_register(parameters=1_138_051, parameters_with_heads=1_157_174, macs=1_676_903_264, stride=32, main=False)
def fast_scnn_public(classes: int = 19, heads: bool = False) -> FastSCNN:
    """Fast-SCNN in the layout of a public PyTorch version, for weights that have it."""
    return FastSCNN(
        classes,
        separable=partial(SeparableConv, between=nn.ReLU),
        padding=0,
        fusion=partial(FeatureFusion, dilation=1, bias=True),
        align_corners=True,
        stride=32,
        heads={"auxlayer": 64} if heads else {},
    )
