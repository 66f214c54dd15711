"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen: CVPR 2018)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.models.backbones._common import Backbone, Classifier, atrous

STAGES = (  # expansion, channels, units, stride: table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class ConvUnit(nn.Sequential):
    """A convolution, normalized and rectified up to 6; the grid shrinks by its stride alone."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """Widens, convolves each channel by itself, narrows without activation (fig. 3b); added to its input if it fits."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvUnit(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvUnit(hidden, hidden, 3, stride, dilation, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        y = self.bn(self.project(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNetV2(Backbone):
    """Two maps: 24 channels at 1/4 of the picture, 1280 at 1/output_stride; any size will do."""

    low_channels, channels = 24, 1280

    def __init__(self, output_stride: int = 32) -> None:
        super().__init__()
        units: list[nn.Module] = [ConvUnit(3, 32, 3, stride=2)]
        inputs = 32
        plan = atrous((stride for *_, stride in STAGES), start=2, output_stride=output_stride)
        for (expansion, outputs, count, _), (stride, first, others) in zip(STAGES, plan, strict=True):
            units.append(InvertedResidual(inputs, outputs, expansion, stride, first))
            units += (InvertedResidual(outputs, outputs, expansion, 1, others) for _ in range(count - 1))
            inputs = outputs
        self.low_features = nn.Sequential(*units[:4])  # to the end of the stage with 24 channels
        self.features = nn.Sequential(*units[4:], ConvUnit(320, 1280, 1))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 24 H W"], Float[Tensor, "b c Y X"]]:
        low = self.low_features(image)
        return low, self.features(low)


def mobilenet_v2_classifier(classes: int = 1000) -> Classifier:
    """MobileNetV2 as it is trained on ImageNet: 3.5 M parameters, 1,281,000 of them in the head."""
    return Classifier(MobileNetV2(), classes, dropout=0.2)
