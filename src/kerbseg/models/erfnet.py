"""ERFNet (Romera, Alvarez, Bergasa, Arroyo: ERFNet, T-ITS 2018).

Kept from the authors' code: batch-norm eps 1e-3, biases before batch-norm, the strided convolution before the
pooled picture, pixels in 0..1 without mean and std, whole channels dropped out (.03 at 64, .3 at 128 channels).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)


class Downsampler(nn.Module):
    """Halves the grid: a strided convolution beside max-pooling (table I, after ENet's initial block)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1)
        self.bn = BatchNorm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h/2 w/2"]:
        return F.relu(self.bn(torch.cat([self.conv(x), F.max_pool2d(x, 2)], dim=1)))


class NonBottleneck1d(nn.Module):
    """Residual block of four 1-D convolutions (fig. 2c); the second pair is dilated."""

    def __init__(self, channels: int, dilation: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv3x1_1 = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        self.conv1x3_1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, 1))
        self.bn1 = BatchNorm(channels)
        self.conv3x1_2 = nn.Conv2d(channels, channels, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))
        self.conv1x3_2 = nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))
        self.bn2 = BatchNorm(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = F.relu(self.conv3x1_1(x))
        y = F.relu(self.bn1(self.conv1x3_1(y)))
        y = F.relu(self.conv3x1_2(y))
        y = self.bn2(self.conv1x3_2(y))
        return F.relu(self.dropout(y) + x)


class Upsampler(nn.Module):
    """Doubles the grid with a transposed convolution, without ENet's unpooling (sec. III-B)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.bn = BatchNorm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2*h 2*w"]:
        return F.relu(self.bn(self.conv(x)))


class Encoder(nn.Sequential):
    """Layers 1 to 16 of table I: features at 1/8 of the picture, from modules at 1/4 (`near`) and at 1/8 (`far`)."""

    def __init__(self, near: Iterable[nn.Module], far: Iterable[nn.Module]) -> None:
        super().__init__(Downsampler(3, 16), Downsampler(16, 64), *near, Downsampler(64, 128), *far)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 128 h/8 w/8"]:
        check_input(image, stride=8)
        return super().forward(image)


def encoder(near_dropout: float = 0.03, far_dropout: float = 0.3) -> Encoder:
    """As in the paper: 5 blocks at 64 channels, 8 dilated ones at 128."""
    near = (NonBottleneck1d(64, dropout=near_dropout) for _ in range(5))
    far = (NonBottleneck1d(128, dilation, dropout=far_dropout) for dilation in (2, 4, 8, 16) * 2)
    return Encoder(near, far)


def decoder(classes: int, dropout: float = 0.0) -> nn.Sequential:
    """Layers 17 to 23 of table I: class logits at the picture's size."""
    block = partial(NonBottleneck1d, dropout=dropout)
    return nn.Sequential(
        Upsampler(128, 64), block(64), block(64),
        Upsampler(64, 16), block(16), block(16),
        nn.ConvTranspose2d(16, classes, 2, stride=2),
    )  # fmt: skip


class ERFNetEncoder(SegmentationNet):
    """An encoder under the 1x1 head that trains it alone: class logits at 1/8 of the picture (sec. IV-A)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Conv2d(128, classes, 1)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/8 w/8"]:
        """Logits at 1/8 of the picture's size."""
        return self.head(self.encoder(image))


class ERFNet(SegmentationNet):
    """Class logits at the picture's size (table I); height and width are multiples of 8."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        return self.decoder(self.encoder(image))


@register(paper="erfnet", parameters=2_064_191, macs=26_604_339_200, input=(512, 1024), stride=8)
def erfnet(
    classes: int = 19, near_dropout: float = 0.03, far_dropout: float = 0.3, decoder_dropout: float = 0.0
) -> ERFNet:
    """ERFNet, encoder and decoder (table I); the paper's text drops .3 in every block, the authors' code as here."""
    return ERFNet(encoder(near_dropout, far_dropout), decoder(classes, decoder_dropout))


@register(paper="erfnet", parameters=1_876_495, macs=21_532_377_088, input=(512, 1024), stride=8, main=False)
def erfnet_encoder(classes: int = 19, near_dropout: float = 0.03, far_dropout: float = 0.3) -> ERFNetEncoder:
    """ERFNet's encoder with its training head: the first stage of the paper's two (sec. IV-A)."""
    return ERFNetEncoder(encoder(near_dropout, far_dropout), classes)
