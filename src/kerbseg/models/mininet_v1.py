"""MiniNet (Alonso, Riazuelo, Murillo: Enhancing V-SLAM Keyframe Selection ..., ICRA 2019), MiniNet-v2's predecessor.

Structure as in the authors' public code; the rows "MiniNet" of MiniNet-v2's tables VI to VIII are this network. SELU
everywhere, no batch-norm.

Kept from the code, because another choice is another network:
* TensorFlow's 'SAME' padding, as in MiniNet-v2: right and bottom only, and a transposed convolution loses its last row
  and column;
* a module's dilation acts across only: on its 1x3 convolutions, not on its 3x1;
* 386 channels at 1/64; the last module passes on its first 48 of 96 channels;
* pixels in BGR order, scaled to -0.5..0.5.

Decided here: fresh depthwise weights have the variance 1 / (kernel's cells). The code divides by the channels too, so
that the signal is gone at 1/64 (standard deviation below .01); `init="as_code"` does as it does. Transposed ones have
1 / (cells that reach a pixel); the code counts outputs for inputs. Dropout acts in training only; in the code it acts
on new pictures too (`dropout_at_test`).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register
from kerbseg.models.mininet import PREPROCESSING, Transposed

INITS = ("per_channel", "as_code")


class Separable(nn.Module):
    """A depthwise convolution, then a pointwise one with bias; nothing stands between them."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), across: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        height, width = kernel
        self.depthwise = nn.Conv2d(
            inputs,
            inputs,
            kernel,
            stride,
            padding=(height // 2, width // 2 * across) if stride == 1 else 0,
            dilation=(1, across),
            groups=inputs,
            bias=False,
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k H W"]:
        return self.pointwise(self.depthwise(x))


class Down(nn.Module):
    """Halves the grid with a strided separable convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Separable(inputs, outputs, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h/2 w/2"]:
        return F.selu(self.conv(F.pad(x, (0, 1, 0, 1))))


class AlphaDropout(nn.AlphaDropout):
    """Dropout that keeps mean and variance of SELU's values; `at_test` leaves it on outside training too."""

    def __init__(self, p: float, at_test: bool) -> None:
        super().__init__(p)
        self.at_test = at_test

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return F.alpha_dropout(input, self.p, self.training or self.at_test)


class Factorized(nn.Module):
    """Residual module of four one-dimensional separable convolutions; the second pair is dilated, across only."""

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: AlphaDropout) -> None:
        super().__init__()
        self.outputs = outputs
        self.across = Separable(inputs, outputs, (1, 3))
        self.down = Separable(outputs, outputs, (3, 1))
        self.far_down = Separable(outputs, outputs, (3, 1), across=dilation)
        self.far_across = Separable(outputs, outputs, (1, 3), across=dilation)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        near = self.down(F.selu(self.across(x)))
        far = self.far_across(F.selu(self.far_down(F.selu(near))))
        return F.selu(self.dropout(far + near) + x[:, : self.outputs])


class Up(nn.Module):
    """Doubles the grid with a transposed convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = Transposed(inputs, outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2*h 2*w"]:
        return F.selu(self.deconv(x))


class MiniNetV1(SegmentationNet):
    """Class logits at the picture's size; sizes are multiples of 64.

    One branch stays at 1/16 and sees far, the other goes down to 1/64; the way up takes in both and every downsampling.
    """

    align_corners = True  # of nothing: logits have the picture's size

    def __init__(
        self, classes: int, dropout: float = 0.25, init: str = "per_channel", dropout_at_test: bool = False
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"init is {init!r}; choose from: {', '.join(INITS)}")

        def module(inputs: int, outputs: int, dilation: int = 1) -> Factorized:
            return Factorized(inputs, outputs, dilation, AlphaDropout(dropout, dropout_at_test))

        self.d1, self.d2, self.d3, self.d4 = Down(3, 12), Down(12, 24), Down(24, 48), Down(48, 96)
        self.far = nn.Sequential(*(module(96, 96, dilation) for dilation in (1, 2, 4, 8)))
        self.d5, self.mid = Down(96, 192), module(192, 192)
        self.d6, self.deep = Down(192, 386), nn.Sequential(module(386, 386), module(386, 386))
        self.u1, self.mid_up = Up(386, 192), module(192, 192)
        self.u2, self.u3 = Up(2 * 192, 96), Up(3 * 96, 96)
        self.narrow = module(96, 48)
        self.u4, self.u5 = Up(2 * 48, 32), Up(32 + 24, 16)
        self.output = Transposed(16 + 12, classes)
        self.apply(_init_per_channel if init == "per_channel" else _init_as_code)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=64)
        half = self.d1(image)
        quarter = self.d2(half)
        eighth = self.d3(quarter)
        sixteenth = self.d4(eighth)
        mid = self.mid(self.d5(sixteenth))  # b 192 h/32 w/32
        deep = self.mid_up(self.u1(self.deep(self.d6(mid))))  # b 192 h/32 w/32
        x = self.u2(torch.cat([deep, mid], dim=1))  # b 96 h/16 w/16
        x = self.u3(torch.cat([self.far(sixteenth), x, sixteenth], dim=1))  # b 96 h/8 w/8
        x = self.u4(torch.cat([self.narrow(x), eighth], dim=1))  # b 32 h/4 w/4
        x = self.u5(torch.cat([x, quarter], dim=1))  # b 16 h/2 w/2
        return self.output(torch.cat([x, half], dim=1))


def _init_per_channel(module: nn.Module) -> None:
    """LeCun normal: the variance of a weight is 1 / (values that are summed up for one output)."""
    if isinstance(module, nn.ConvTranspose2d):
        _normal(module, fan=module.in_channels * math.prod(module.kernel_size) / math.prod(module.stride))
    elif isinstance(module, nn.Conv2d):
        _normal(module, fan=module.weight[0].numel())


def _init_as_code(module: nn.Module) -> None:
    """As TensorFlow counts: [h w C 1] of a depthwise kernel as C inputs, [h w O I] of a transposed one as O inputs."""
    if isinstance(module, nn.ConvTranspose2d):
        _normal(module, fan=module.out_channels * math.prod(module.kernel_size))
    elif isinstance(module, nn.Conv2d) and module.groups > 1:
        cells = math.prod(module.kernel_size)
        limit = math.sqrt(6 / (cells * module.in_channels + cells))  # Xavier uniform
        nn.init.uniform_(module.weight, -limit, limit)
    elif isinstance(module, nn.Conv2d):
        _normal(module, fan=module.in_channels)


def _normal(module: nn.Conv2d | nn.ConvTranspose2d, fan: float) -> None:
    nn.init.normal_(module.weight, std=fan**-0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


@register(
    paper="mininet",
    parameters=3_062_736,
    macs=666_079_744,
    input=(256, 512),
    stride=64,
    preprocessing=PREPROCESSING,
)
def mininet_v1(
    classes: int = 19, dropout: float = 0.25, init: str = "per_channel", dropout_at_test: bool = False
) -> MiniNetV1:
    """MiniNet of 2019, a baseline of MiniNet-v2."""
    return MiniNetV1(classes, dropout=dropout, init=init, dropout_at_test=dropout_at_test)
