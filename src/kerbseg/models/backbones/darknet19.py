"""Darknet19 (Redmon, Farhadi: YOLO9000, CVPR 2017)."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.models.backbones._common import Backbone, Classifier, check_output_stride

Geometry = Callable[[int, int, int], tuple[int, int]]  # layer, kernel, wanted dilation -> padding, dilation


def same_size(layer: int, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding that keeps the grid, as Darknet does."""
    return kernel // 2 * dilation, dilation


def as_published(layer: int, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding and dilation of LiteSeg's weights: three 1x1 layers grow the map, three dilated ones shrink it again.

    At 1/16 the sizes come out even, but near its borders the network sees what normalized zeros look like.
    """
    return (1 if kernel == 3 or layer in (14, 16, 20) else 0), (2 if layer >= 19 else 1)


class ConvUnit(nn.Sequential):
    """A convolution, normalized, with a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int, dilation: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.01),
            nn.LeakyReLU(0.1),
        )


def alternating(
    layer: int, inputs: int, outputs: int, count: int, dilation: int, geometry: Geometry
) -> list[nn.Module]:
    """`count` layers from number `layer` on: 3x3 to `outputs` channels and 1x1 to half of them by turns (table 6)."""
    units: list[nn.Module] = []
    for number in range(layer, layer + count):
        kernel, width = (1, outputs // 2) if (number - layer) % 2 else (3, outputs)
        units.append(ConvUnit(inputs, width, kernel, *geometry(number, kernel, dilation)))
        inputs = width
    return units


class Darknet19(Backbone):
    """Two maps: 128 channels at 1/4 of the picture, 1024 at 1/output_stride; height and width are multiples of 4."""

    low_channels, channels = 128, 1024
    stride = 4

    def __init__(self, output_stride: int = 32, geometry: Geometry = same_size) -> None:
        super().__init__()
        check_output_stride(output_stride)
        self.smallest = output_stride
        # a pool of 1x1, which the authors left in its place, does nothing; what follows is dilated instead
        pool16, pool32 = (nn.MaxPool2d(2 if output_stride >= reached else 1) for reached in (16, 32))
        self.low_features = nn.Sequential(
            *alternating(1, 3, 32, 1, 1, geometry), nn.MaxPool2d(2),
            *alternating(3, 32, 64, 1, 1, geometry), nn.MaxPool2d(2),
            *alternating(5, 64, 128, 3, 1, geometry),
        )  # fmt: skip
        self.features = nn.Sequential(
            nn.MaxPool2d(2), *alternating(9, 128, 256, 3, 1, geometry),
            pool16, *alternating(13, 256, 512, 5, max(1, 16 // output_stride), geometry),
            pool32, *alternating(19, 512, 1024, 5, 32 // output_stride, geometry),
        )  # fmt: skip

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 128 H W"], Float[Tensor, "b c Y X"]]:
        low = self.low_features(image)
        return low, self.features(low)


def darknet19_classifier(classes: int = 1000) -> Classifier:
    """Darknet19 as it is trained on ImageNet: its last 1x1 layer and the average after it commute, here a head."""
    return Classifier(Darknet19(), classes)
