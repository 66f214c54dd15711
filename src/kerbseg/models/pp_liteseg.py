"""PP-LiteSeg (Peng et al.: PP-LiteSeg, arXiv 2204.02681), of size T, after the authors' published code (PaddleSeg).

The encoder is STDC1 (Fan et al.: Rethinking BiSeNet, CVPR 2021). Module names are the authors', without underscores.

Kept from the code, because its weights need it, and where a reader of the papers would expect otherwise:
* the strided depthwise convolution of an STDC module is normalized, but not rectified, and its module has no residual
  sum; the pooling beside it leaves its padding out of the mean (Paddle's default, other than torch's);
* convolutions of the pyramid have biases though they are normalized; of the others none has, not even the last;
* the attention's second convolution is normalized, and the sigmoid follows at once; what it leaves of the low map's
  weight up to a stored constant (`scale`, 1, never trained) is the high map's;
* the logits at 1/8 are enlarged inside the network; every interpolation is bilinear, corners not aligned.

Decided here: nothing; the papers print no counts. The constants are no parameters. The running variance of batch-norm
is unbiased, as in torch; Paddle stores the biased one. The encoder starts as the authors start it before they load the
weights of ImageNet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet, resize
from kerbseg.models._pooling import average_parts, check_batch
from kerbseg.models._registry import register

PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BINS = (1, 2, 4)  # parts along a side of the pyramid's averages

Features = Float[Tensor, "b c h w"]


class ConvNorm(nn.Sequential):
    """A convolution, normalized; a 3x3 one of stride 2 rounds up when it halves the grid."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))


class ConvUnit(ConvNorm):
    """A convolution, normalized and rectified."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias)
        self.append(nn.ReLU())


class ShortTermDense(nn.Module):
    """STDC module (Fan et al., fig. 3): ever narrower convolutions, each seeing the one before, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half, quarter, eighth = outputs // 2, outputs // 4, outputs // 8
        self.conv_list = nn.ModuleList(
            [
                ConvUnit(inputs, half, 1),
                ConvUnit(half, quarter, 3),
                ConvUnit(quarter, eighth, 3),
                ConvUnit(eighth, eighth, 3),
            ]
        )

    def shrink(self, x: Features) -> tuple[Features, Features]:
        """What stands in the result, and what the next convolution sees."""
        return x, x

    def forward(self, x: Features) -> Float[Tensor, "b k H W"]:
        first, *others = self.conv_list
        kept, y = self.shrink(first(x))
        maps = [kept]
        for conv in others:
            y = conv(y)
            maps.append(y)
        return torch.cat(maps, dim=1)


class StridedShortTermDense(ShortTermDense):
    """The same, halving the grid: a mean of 3x3 pixels beside a depthwise convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        half = outputs // 2
        self.avd_layer = nn.Sequential(
            nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False), nn.BatchNorm2d(half)
        )
        self.skip = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)

    def shrink(self, x: Features) -> tuple[Features, Features]:
        return self.skip(x), self.avd_layer(x)


class STDC1(nn.Module):
    """Maps of 256, 512 and 1024 channels at 1/8, 1/16 and 1/32 of the picture, rounded up."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvUnit(3, 32, 3, stride=2), ConvUnit(32, 64, 3, stride=2),
            StridedShortTermDense(64, 256), ShortTermDense(256, 256),
            StridedShortTermDense(256, 512), ShortTermDense(512, 512),
            StridedShortTermDense(512, 1024), ShortTermDense(1024, 1024),
        )  # fmt: skip
        for conv in convolutions(self):
            nn.init.normal_(conv.weight, std=0.001)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Features]:
        maps, x = [], image
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in (3, 5, 7):
                maps.append(x)
        return maps


class SPPM(nn.Module):
    """Simple pyramid pooling (sec. 3.3): averages of 1, 4 and 16 parts, each made narrow, enlarged and summed up."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(ConvUnit(inputs, outputs, 1, bias=True) for _ in BINS)
        self.conv_out = ConvUnit(outputs, outputs, 3, bias=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        check_batch(x, self.training)
        one, four, sixteen = (
            resize(stage(average_parts(x, parts)), (x.shape[-2], x.shape[-1]), align_corners=False)
            for parts, stage in zip(BINS, self.stages, strict=True)
        )
        return self.conv_out(one + four + sixteen)


class UAFM(nn.Module):
    """Unified attention fusion (sec. 3.2, spatial): a low map and an enlarged high one, weighed pixel by pixel."""

    scale: Tensor

    def __init__(self, low: int, high: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1))
        self.conv_x = ConvUnit(low, high, 3)
        self.conv_out = ConvUnit(high, outputs, 3)
        self.conv_xy_atten = nn.Sequential(ConvUnit(4, 2, 3), ConvNorm(2, 1, 3))

    def forward(self, low: Features, high: Float[Tensor, "b k p q"]) -> Float[Tensor, "b o h w"]:
        x = self.conv_x(low)
        y = resize(high, (x.shape[-2], x.shape[-1]), align_corners=False)
        seen = torch.cat([mean_and_max(x), mean_and_max(y)], dim=1)
        share = self.conv_xy_atten(seen).sigmoid()  # of the low map
        return self.conv_out(x * share + y * (self.scale - share))


def mean_and_max(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2 h w"]:
    """Of the channels, at each pixel."""
    return torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)


class Decoder(nn.Module):
    """Flexible lightweight decoder (sec. 3.1): the pyramid's map, fused with the encoder's from deep to shallow."""

    def __init__(self, encoder: Sequence[int], context: int, outputs: Sequence[int]) -> None:
        super().__init__()
        self.cm = SPPM(encoder[-1], context)
        high = [*outputs[1:], context]
        self.arm_list = nn.ModuleList(UAFM(*channels) for channels in zip(encoder, high, outputs, strict=True))

    def forward(self, maps: list[Features]) -> list[Features]:
        """Fused maps on the grids of the encoder's, the finest first."""
        high = self.cm(maps[-1])
        fused = []
        for fusion, low in zip(reversed(self.arm_list), reversed(maps), strict=True):
            high = fusion(low, high)
            fused.append(high)
        return fused[::-1]


class Head(nn.Module):
    """Class logits on the grid it is given."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv = ConvUnit(inputs, width, 3)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x: Features) -> Float[Tensor, "b k h w"]:
        return self.conv_out(self.conv(x))


class PPLiteSeg(SegmentationNet):
    """Class logits at 1/8 of the picture's size, rounded up; any size will do.

    With `heads`, `seg_heads.1` and `seg_heads.2` give logits at 1/16 and 1/32, for training alone.
    """

    def __init__(self, classes: int, outputs: Sequence[int], widths: Sequence[int], heads: bool) -> None:
        super().__init__()
        self.heads = ("seg_heads.1", "seg_heads.2") if heads else ()
        self.backbone = STDC1()
        self.ppseg_head = Decoder((256, 512, 1024), outputs[-1], outputs)
        pairs = list(zip(outputs, widths, strict=True))
        self.seg_heads = nn.ModuleList(Head(*pair, classes) for pair in (pairs if heads else pairs[:1]))
        for part in (self.ppseg_head, self.seg_heads):
            for conv in convolutions(part):
                nn.init.kaiming_normal_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits at 1/8 of the picture's size."""
        check_input(image, stride=1)
        maps = self.ppseg_head(self.backbone(image))
        answer, *_ = [head(x) for head, x in zip(self.seg_heads, maps, strict=False)]
        return answer


def convolutions(part: nn.Module) -> list[nn.Conv2d]:
    """All convolutions of a part."""
    return [module for module in part.modules() if isinstance(module, nn.Conv2d)]


@register(
    paper="pp_liteseg",
    parameters=8_028_320,
    parameters_with_heads=8_141_600,
    macs=11_421_139_968,
    input=(512, 1024),
    stride=1,
    preprocessing=PREPROCESSING,
)
def pp_liteseg_t(classes: int = 19, heads: bool = False) -> PPLiteSeg:
    """PP-LiteSeg-T, on STDC1 (sec. 3)."""
    return PPLiteSeg(classes, outputs=(32, 64, 128), widths=(32, 64, 64), heads=heads)
