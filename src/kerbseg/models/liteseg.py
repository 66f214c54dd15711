"""LiteSeg (Emara, Abd El Munim, Abbas: LiteSeg, DICTA 2019).

Kept from the authors' code, because its weights need it:
* every interpolation is bilinear with aligned corners;
* in the pyramid the 1x1 branch is not rectified, nor are the atrous convolutions before their second 3x3;
* a separable 1x1 layer has a 1x1 depthwise part too;
* Darknet19's odd padding (see `backbones.darknet19.as_published`);
* with ShuffleNet the decoder works at 1/8 of the picture, with the others at 1/4.

The paper's 4.38 and 3.51 M parameters count the backbones' ImageNet heads, which segment nothing and are not here:
add the head of `backbones.mobilenet_v2_classifier()` or `shufflenet_classifier()` to meet them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.core.errors import InputError
from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet, resize
from kerbseg.models._registry import register
from kerbseg.models.backbones import Backbone, Darknet19, MobileNetV2, ShuffleNet
from kerbseg.models.backbones.darknet19 import as_published, same_size

PREPROCESSING = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's
RATES = (3, 6, 9)
WIDTH = 96

Conv = Callable[..., nn.Module]  # inputs, outputs, kernel, dilation=1
Pyramid = Callable[[int, int, Conv], nn.Module]  # inputs, outputs, conv


def dense(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A standard convolution that keeps the grid."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2 * dilation, dilation=dilation, bias=False)


class Separable(nn.Sequential):
    """Each channel by itself, then a mix of the channels, with nothing between (sec. II-B)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(inputs, inputs, kernel, padding=padding, dilation=dilation, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
        )


class ConvUnit(nn.Sequential):
    """A convolution handed in, normalized and rectified."""

    def __init__(self, conv: nn.Module, outputs: int) -> None:
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class PictureContext(nn.Module):
    """The average of the whole map, spread over the map again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.unit = ConvUnit(dense(inputs, outputs, 1), outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        if self.training and len(x) == 1:
            raise InputError(
                "LiteSeg cannot train on 1 picture at a time: the average of the whole picture leaves batch-norm"
                " one value per channel; use batches of 2 or more, or eval()"
            )
        return self.unit(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """The pyramid of the table I baseline, as we read it: one rectified layer in each branch."""

    def __init__(self, inputs: int, outputs: int, conv: Conv) -> None:
        super().__init__()
        self.point = ConvUnit(conv(inputs, outputs, 1), outputs)
        self.atrous = nn.ModuleList(ConvUnit(conv(inputs, outputs, 3, dilation=rate), outputs) for rate in RATES)
        self.context = PictureContext(inputs, outputs)
        self.fusion = ConvUnit(conv(5 * outputs, outputs, 1), outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        branches = [self.point(x), *(branch(x) for branch in self.atrous), self.context(x)]
        return self.fusion(torch.cat(branches, dim=1))


class DASPP(nn.Module):
    """The deeper pyramid (sec. II-D): a second 3x3 after each atrous one, and its own input beside the branches."""

    def __init__(self, inputs: int, outputs: int, conv: Conv) -> None:
        super().__init__()
        self.point = nn.Sequential(conv(inputs, outputs, 1), nn.BatchNorm2d(outputs))
        self.atrous = nn.ModuleList(
            nn.Sequential(
                conv(inputs, outputs, 3, dilation=rate),
                nn.BatchNorm2d(outputs),
                ConvUnit(conv(outputs, outputs, 3), outputs),
            )
            for rate in RATES
        )
        self.context = PictureContext(inputs, outputs)
        self.fusion = ConvUnit(conv(inputs + 5 * outputs, outputs, 1), outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        branches = [self.point(x), *(branch(x) for branch in self.atrous), self.context(x)]
        return self.fusion(torch.cat([x, *branches], dim=1))


class LiteSeg(SegmentationNet):
    """Class logits on the grid of the backbone's early features, upsampled to the picture's (fig. 1)."""

    align_corners = True

    def __init__(
        self,
        classes: int,
        backbone: Backbone,
        low_width: int | None = None,  # channels to which the early features are reduced; None leaves them
        conv: Conv = Separable,
        pyramid: Pyramid = DASPP,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        low = low_width or backbone.low_channels
        self.backbone = backbone
        self.pyramid = pyramid(backbone.channels, width, conv)
        self.reduction = ConvUnit(conv(backbone.low_channels, low, 1), low) if low_width else nn.Identity()
        self.decoder = nn.Sequential(
            ConvUnit(conv(width + low, width, 3), width),
            ConvUnit(conv(width, width, 3), width),
            nn.Conv2d(width, classes, 1),
        )

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits at 1/4 of the picture's size (ShuffleNet: 1/8), rounded up."""
        check_input(image, self.backbone.stride, self.backbone.smallest)
        low, high = self.backbone(image)
        context = resize(self.pyramid(high), low.shape[-2:], align_corners=True)
        return self.decoder(torch.cat([context, self.reduction(low)], dim=1))


def _darknet19(output_stride: int, same_padding: bool = False) -> Darknet19:
    # the published padding comes out even at 1/16 only
    return Darknet19(output_stride, as_published if output_stride == 16 and not same_padding else same_size)


_register = partial(register, paper="liteseg", input=(512, 1024), preprocessing=PREPROCESSING)
_ablation = partial(_register, main=False)


@_register(parameters=3_101_707, macs=4_305_379_328, stride=1)
def liteseg_mobilenet_v2(classes: int = 19, output_stride: int = 32) -> LiteSeg:
    """LiteSeg on MobileNetV2 (tables I to V)."""
    return LiteSeg(classes, MobileNetV2(output_stride))


@_ablation(parameters=6_395_763, macs=11_280_113_664, stride=1)
def liteseg_mobilenet_v2_dense(classes: int = 19, output_stride: int = 32) -> LiteSeg:
    """LiteSeg on MobileNetV2, of standard convolutions (tables I and II)."""
    return LiteSeg(classes, MobileNetV2(output_stride), conv=dense)


@_ablation(parameters=2_946_731, macs=4_226_326_528, stride=1)
def liteseg_mobilenet_v2_aspp(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg on MobileNetV2 with the plain pyramid; DeepLabv3+ has width=256."""
    return LiteSeg(classes, MobileNetV2(output_stride), pyramid=ASPP, width=width)


@_ablation(parameters=6_023_475, macs=11_089_797_120, stride=1)
def liteseg_mobilenet_v2_aspp_dense(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg's baseline on MobileNetV2: plain pyramid, standard convolutions (table I, row 1)."""
    return LiteSeg(classes, MobileNetV2(output_stride), conv=dense, pyramid=ASPP, width=width)


@_register(parameters=1_971_451, macs=2_245_017_600, stride=1)
def liteseg_shufflenet(classes: int = 19, output_stride: int = 32) -> LiteSeg:
    """LiteSeg on ShuffleNet (tables I to V)."""
    return LiteSeg(classes, ShuffleNet(output_stride), low_width=48)


@_ablation(parameters=5_865_739, macs=5_634_932_736, stride=1)
def liteseg_shufflenet_dense(classes: int = 19, output_stride: int = 32) -> LiteSeg:
    """LiteSeg on ShuffleNet, of standard convolutions (tables I and II)."""
    return LiteSeg(classes, ShuffleNet(output_stride), low_width=48, conv=dense)


@_ablation(parameters=1_791_643, macs=2_153_250_816, stride=1)
def liteseg_shufflenet_aspp(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg on ShuffleNet with the plain pyramid; DeepLabv3+ has width=256."""
    return LiteSeg(classes, ShuffleNet(output_stride), low_width=48, pyramid=ASPP, width=width)


@_ablation(parameters=5_468_875, macs=5_432_033_280, stride=1)
def liteseg_shufflenet_aspp_dense(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg's baseline on ShuffleNet: plain pyramid, standard convolutions (table I, row 1)."""
    return LiteSeg(classes, ShuffleNet(output_stride), low_width=48, conv=dense, pyramid=ASPP, width=width)


@_register(parameters=20_545_459, macs=57_129_664_512, stride=4)
def liteseg_darknet19(classes: int = 19, output_stride: int = 16, same_padding: bool = False) -> LiteSeg:
    """LiteSeg on Darknet19 (tables I to V)."""
    return LiteSeg(classes, _darknet19(output_stride, same_padding), low_width=32)


@_ablation(parameters=23_263_059, macs=67_914_268_672, stride=4)
def liteseg_darknet19_dense(classes: int = 19, output_stride: int = 16, same_padding: bool = False) -> LiteSeg:
    """LiteSeg on Darknet19, of standard convolutions (tables I and II)."""
    return LiteSeg(classes, _darknet19(output_stride, same_padding), low_width=32, conv=dense)


@_ablation(parameters=20_415_315, macs=29_847_535_616, stride=4)
def liteseg_darknet19_aspp(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg on Darknet19 with the plain pyramid at 1/32; DeepLabv3+ has width=256."""
    return LiteSeg(classes, _darknet19(output_stride), low_width=32, pyramid=ASPP, width=width)


@_ablation(parameters=22_915_347, macs=36_607_459_328, stride=4)
def liteseg_darknet19_aspp_dense(classes: int = 19, output_stride: int = 32, width: int = WIDTH) -> LiteSeg:
    """LiteSeg's baseline on Darknet19: plain pyramid, standard convolutions, 1/32 (table I, row 1)."""
    return LiteSeg(classes, _darknet19(output_stride), low_width=32, conv=dense, pyramid=ASPP, width=width)
