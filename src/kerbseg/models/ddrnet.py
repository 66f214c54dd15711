"""DDRNet (Hong, Pan, Sun, Jia: Deep Dual-resolution Networks, arXiv 2101.06085), after the authors' published code.

Kept from the code, because its weights need it, and where a reader of residual networks would expect otherwise:
* the sum that leaves a stage is not rectified: whoever reads it does that, and additions and heads take it as it is;
* both bottlenecks end without ReLU; the pyramid and the heads normalize and rectify *before* they convolve;
* where the branches meet, each takes what the other held before they met;
* of the stem's two convolutions, and of the heads' last, there are biases; of no others;
* the pyramid's averages count their padding; every interpolation is bilinear, corners not aligned.

Module names are the authors': a trailing underscore marks the branch of high resolution.

Decided here: the authors' code enlarges maps to a floored eighth of the picture, which fits multiples of 8 alone; so
other sizes are refused. It trains with SyncBatchNorm, which is the run's choice here. The authors' training code is not
published: pixels are prepared as in HRNet's, on which they say it is built. Costs stand at 1024x512, where the other
networks' do; the paper reports 2048x1024: 36.3 GFLOPs there are the 36.28 G multiply-accumulates of this code, and its
5.7 M parameters leave out the training head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.errors import InputError
from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet, resize
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's

Features = Float[Tensor, "b c h w"]
Others = Float[Tensor, "b k p q"]  # of other channels, or on another grid


class ConvNorm(nn.Sequential):
    """A normalized convolution; a 3x3 one of stride 2 rounds up when it halves the grid."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """A branch of convolutions (`branch`) added to what it saw, projected where grid or channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int, end: nn.Module) -> None:
        super().__init__()
        self.end = end  # what the sum goes through
        same = stride == 1 and inputs == outputs
        self.downsample = nn.Identity() if same else ConvNorm(inputs, outputs, 1, stride)

    def branch(self, x: Features) -> Others:
        raise NotImplementedError(f"{type(self).__name__} has no branch")

    def forward(self, x: Features) -> Others:
        return self.end(self.branch(x) + self.downsample(x))


class BasicBlock(Residual):
    """Two 3x3 convolutions; its sum is rectified unless another `end` is handed in."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, end: nn.Module | None = None) -> None:
        super().__init__(inputs, outputs, stride, end or nn.ReLU())
        self.conv1, self.bn1 = ConvNorm(inputs, outputs, 3, stride)
        self.conv2, self.bn2 = ConvNorm(outputs, outputs, 3)

    def branch(self, x: Features) -> Others:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class Bottleneck(Residual):
    """1x1, 3x3 and 1x1 convolutions to twice the width inside; its sum is never rectified."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__(inputs, 2 * width, stride, nn.Identity())
        self.conv1, self.bn1 = ConvNorm(inputs, width, 1)
        self.conv2, self.bn2 = ConvNorm(width, width, 3, stride)
        self.conv3, self.bn3 = ConvNorm(width, 2 * width, 1)

    def branch(self, x: Features) -> Others:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.bn3(self.conv3(y))


def stage(inputs: int, outputs: int, blocks: int = 2, stride: int = 1) -> nn.Sequential:
    """Basic blocks, the first of which may halve the grid; the last one's sum is not rectified."""
    between = (BasicBlock(outputs, outputs) for _ in range(blocks - 2))
    first, last = BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, end=nn.Identity())
    return nn.Sequential(first, *between, last)


class Stem(nn.Sequential):
    """The picture at 1/4 of its size: two strided convolutions with biases."""

    def __init__(self, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(3, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip


class Head(nn.Module):
    """Class logits on the grid it is given, of features that nobody rectified."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, classes, 1)

    def forward(self, x: Features) -> Float[Tensor, "b k h w"]:
        return self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))


class NormConv(nn.Sequential):
    """A convolution behind its normalization and ReLU; of a pooled map where a pool is handed in."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, groups: int = 1, pool: Sequence[nn.Module] = ()
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        super().__init__(*pool, nn.BatchNorm2d(inputs), nn.ReLU(), conv)


def pooled(inputs: int, outputs: int, kernel: int) -> NormConv:
    """Averages over windows that overlap by half; the border's include the zeros beyond it, as the authors' do."""
    pool = nn.AvgPool2d(kernel, stride=kernel // 2, padding=kernel // 2, count_include_pad=True)
    return NormConv(inputs, outputs, pool=[pool])


class WholeAverage(nn.Module):
    """The average of the whole map; torch's adaptive pooling is the same, and comes out of an export as gathers."""

    def forward(self, x: Features) -> Float[Tensor, "b c 1 1"]:
        return x.mean(dim=(2, 3), keepdim=True)


class Pyramid(nn.Module):
    """A map and its averages at four scales, brought together as a subclass says, beside a shortcut."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.scale1 = pooled(inputs, width, 5)
        self.scale2 = pooled(inputs, width, 9)
        self.scale3 = pooled(inputs, width, 17)
        self.scale4 = NormConv(inputs, width, pool=[WholeAverage()])
        self.scale0 = NormConv(inputs, width)
        self.compression = NormConv(5 * width, outputs)
        self.shortcut = NormConv(inputs, outputs)

    def merge(self, fine: Features, averages: list[Tensor]) -> list[Tensor]:
        """Maps of five times the width in all; of the averages the last is one pixel, which an addition spreads."""
        raise NotImplementedError(f"{type(self).__name__} merges nothing")

    def forward(self, x: Features) -> Float[Tensor, "b k h w"]:
        size = (x.shape[-2], x.shape[-1])
        averages = [resize(scale(x), size, align_corners=False) for scale in (self.scale1, self.scale2, self.scale3)]
        merged = self.merge(self.scale0(x), [*averages, self.scale4(x)])
        return self.compression(torch.cat(merged, dim=1)) + self.shortcut(x)


class DAPPM(Pyramid):
    """Deep aggregation: each scale's average is added to the result of the finer one, and convolved."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__(inputs, width, outputs)
        self.process1 = NormConv(width, width, 3)
        self.process2 = NormConv(width, width, 3)
        self.process3 = NormConv(width, width, 3)
        self.process4 = NormConv(width, width, 3)

    def merge(self, fine: Features, averages: list[Tensor]) -> list[Tensor]:
        merged = [fine]
        processes = (self.process1, self.process2, self.process3, self.process4)
        for process, average in zip(processes, averages, strict=True):
            merged.append(process(average + merged[-1]))
        return merged


class DDRNet(SegmentationNet):
    """Class logits at 1/8 of the picture's size; height and width are multiples of 8."""

    def __init__(
        self, classes: int, planes: int, head_planes: int, pyramid_planes: int = 128, heads: bool = False
    ) -> None:
        super().__init__()
        p, high = planes, 2 * planes
        self.conv1 = Stem(p)
        self.layer1 = stage(p, p)
        self.layer2 = stage(p, 2 * p, stride=2)
        self.layer3 = stage(2 * p, 4 * p, stride=2)
        self.layer4 = stage(4 * p, 8 * p, stride=2)
        self.compression3 = ConvNorm(4 * p, high, 1)
        self.compression4 = ConvNorm(8 * p, high, 1)
        self.down3 = ConvNorm(high, 4 * p, 3, stride=2)
        self.down4 = nn.Sequential(
            *ConvNorm(high, 4 * p, 3, stride=2), nn.ReLU(), *ConvNorm(4 * p, 8 * p, 3, stride=2)
        )  # fmt: skip
        self.layer3_ = stage(2 * p, high)
        self.layer4_ = stage(high, high)
        self.layer5_ = nn.Sequential(Bottleneck(high, high))
        self.layer5 = nn.Sequential(Bottleneck(8 * p, 8 * p, stride=2))
        self.spp = DAPPM(16 * p, pyramid_planes, 2 * high)
        if heads:
            self.heads = ("seghead_extra",)
            self.seghead_extra = Head(high, head_planes, classes)
        self.final_layer = Head(2 * high, head_planes, classes)
        start(self)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/8 w/8"]:
        """Logits at 1/8 of the picture's size; those of the training head, if there, are for `with_heads`."""
        check_picture(image, self.training)
        x = F.relu(self.layer1(self.conv1(image)))  # b p h/4 w/4
        x = F.relu(self.layer2(x))  # b 2p h/8 w/8
        high, low = self.layer3_(x), self.layer3(x)  # b 2p h/8 w/8, b 4p h/16 w/16
        high, low = self._fuse(high, low, self.compression3, self.down3)
        if self.heads:
            self.seghead_extra(high)
        high, low = self.layer4_(F.relu(high)), self.layer4(F.relu(low))  # b 2p h/8 w/8, b 8p h/32 w/32
        high, low = self._fuse(high, low, self.compression4, self.down4)
        high, low = self.layer5_(F.relu(high)), self.layer5(F.relu(low))  # b 4p h/8 w/8, b 16p h/64 w/64
        return self.final_layer(enlarge(self.spp(low), high) + high)

    @staticmethod
    def _fuse(high: Features, low: Others, compress: nn.Module, down: nn.Module) -> tuple[Features, Others]:
        """Both branches with what the other held before they met (bilateral fusion)."""
        return high + enlarge(compress(F.relu(low)), high), low + down(F.relu(high))


def enlarge(features: Float[Tensor, "b c p q"], like: Float[Tensor, "b k h w"]) -> Features:
    """A map at the size of another one."""
    return resize(features, (like.shape[-2], like.shape[-1]), align_corners=False)


def check_picture(image: Tensor, training: bool) -> None:
    """Raises InputError for what a network with this pyramid cannot take."""
    check_input(image, stride=8)
    if training and len(image) == 1:
        raise InputError(
            "this network cannot train on 1 picture at a time: the average of the whole picture leaves batch-norm one"
            " value per channel; use batches of 2 or more, or eval()"
        )


def start(net: nn.Module) -> None:
    """He's normal initialization, by the outputs of each convolution; biases and batch-norms as torch makes them."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@register(
    paper="ddrnet",
    parameters=5_695_987,
    parameters_with_heads=5_734_342,
    macs=9_070_379_008,
    input=(512, 1024),
    stride=8,
    preprocessing=PREPROCESSING,
)
def ddrnet_23_slim(classes: int = 19, heads: bool = False) -> DDRNet:
    """DDRNet-23-slim: two branches that meet twice, and a deep pyramid."""
    return DDRNet(classes, planes=32, head_planes=64, heads=heads)


@register(
    paper="ddrnet",
    parameters=20_148_947,
    parameters_with_heads=20_299_366,
    macs=35_765_223_424,
    input=(512, 1024),
    stride=8,
    preprocessing=PREPROCESSING,
)
def ddrnet_23(classes: int = 19, heads: bool = False) -> DDRNet:
    """DDRNet-23: twice as wide as the slim one."""
    return DDRNet(classes, planes=64, head_planes=128, heads=heads)
