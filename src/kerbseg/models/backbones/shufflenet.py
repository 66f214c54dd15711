"""ShuffleNet, first version, eight groups (Zhang, Zhou, Lin, Sun: CVPR 2018).

Kept from the network that LiteSeg's authors trained: every convolution has a bias, and the first is neither
normalized nor rectified.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models.backbones._common import Backbone, Classifier, atrous

GROUPS = 8
STAGES = ((384, 4), (768, 8), (1536, 4))  # channels, units: table 1, g = 8

grouped = partial(nn.Conv2d, kernel_size=1, groups=GROUPS)


def shuffle(x: Float[Tensor, "b c h w"], groups: int) -> Float[Tensor, "b c h w"]:
    """The channels dealt out again, so that the next grouped convolution sees every group (fig. 1c)."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


class ShuffleUnit(nn.Module):
    """A bottleneck of grouped 1x1 convolutions, the branch of both units of fig. 2: b, added; c, beside its input."""

    def __init__(self, inputs: int, bottleneck: int, outputs: int, stride: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.compress = grouped(inputs, bottleneck, groups=groups)
        self.compress_bn = nn.BatchNorm2d(bottleneck)
        self.compress_relu = nn.ReLU()  # a module, since the paper's counter of operations sees modules only
        self.depthwise = nn.Conv2d(bottleneck, bottleneck, 3, stride, dilation, dilation, groups=bottleneck)
        self.depthwise_bn = nn.BatchNorm2d(bottleneck)
        self.expand = grouped(bottleneck, outputs)
        self.expand_bn = nn.BatchNorm2d(outputs)

    def branch(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        """What the unit adds to its input, or puts beside it."""
        y = shuffle(self.compress_relu(self.compress_bn(self.compress(x))), GROUPS)
        return self.expand_bn(self.expand(self.depthwise_bn(self.depthwise(y))))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.relu(x + self.branch(x))


class DilatedAverage(nn.Module):
    """The mean of nine values that lie `dilation` apart, zeros outside: what nn.AvgPool2d cannot do."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        height, width = x.shape[-2:]
        starts = (0, self.dilation, 2 * self.dilation)
        x = F.pad(x, (self.dilation,) * 4)
        rows = torch.stack([x[..., start : start + height, :] for start in starts]).mean(dim=0)
        return torch.stack([rows[..., start : start + width] for start in starts]).mean(dim=0)


class StridedShuffleUnit(ShuffleUnit):
    """A stage's first unit: the averaged input and the branch side by side (fig. 2c)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, groups: int) -> None:
        super().__init__(inputs, outputs // 4, outputs - inputs, stride, dilation, groups)
        self.average = nn.AvgPool2d(3, stride, padding=1) if dilation == 1 else DilatedAverage(dilation)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        return F.relu(torch.cat([self.average(x), self.branch(x)], dim=1))


class ShuffleNet(Backbone):
    """Two maps: 384 channels at 1/8 of the picture, 1536 at 1/output_stride; any size will do."""

    low_channels, channels = 384, 1536

    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.MaxPool2d(3, stride=2, padding=1))
        stages = []
        inputs, groups = 24, 1  # 24 channels are too few to group (sec. 3.2)
        plan = atrous((2, 2, 2), start=4, output_stride=output_stride)
        for (outputs, count), (stride, first, others) in zip(STAGES, plan, strict=True):
            units = [ShuffleUnit(outputs, outputs // 4, outputs, 1, others, GROUPS) for _ in range(count - 1)]
            stages.append(nn.Sequential(StridedShuffleUnit(inputs, outputs, stride, first, groups), *units))
            inputs, groups = outputs, GROUPS
        self.stage2, self.stage3, self.stage4 = stages

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 384 H W"], Float[Tensor, "b c Y X"]]:
        low = self.stage2(self.stem(image))
        return low, self.stage4(self.stage3(low))


def shufflenet_classifier(classes: int = 1000) -> Classifier:
    """ShuffleNet 1x (g = 8) as it is trained on ImageNet; its head has 1,537,000 parameters."""
    return Classifier(ShuffleNet(), classes)
