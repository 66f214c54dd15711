"""ERFNet made of depthwise-separable, grouped, shuffled convolutions (gradual grouping, tables 1 to 5).

Names as in the paper: D is depthwise-separable, DG2 to DG8 have grouped pointwise convolutions, S shuffles channels
between them. `_all` (the paper's star) replaces every encoder module, the others only the later ones (table 2);
`_light` has the light decoder of table 4 ('proposed'). Dense and grouped variants share their module names, so the
collapse of a faded network loads strictly into its grouped one.

The paper's figure of the module is not in its text. Kept as in ERFNet's own block: biases, batch-norm after each pair,
dilation in the second depthwise convolution. The paper's counts are arithmetic over weights, not of this network: see
`kerbseg.profiling.conventions.grouping_paper`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._net import resize
from kerbseg.models._registry import register
from kerbseg.models.erfnet import BatchNorm, Encoder, ERFNet, ERFNetEncoder, NonBottleneck1d, decoder

Module = Callable[..., nn.Module]  # channels, dilation, dropout


class ConvModule(nn.Module):
    """Residual block of two depthwise-separable convolutions with grouped pointwise parts (table 1, 'Conv-module')."""

    def __init__(
        self,
        channels: int,
        dilation: int = 1,
        dropout: float = 0.0,
        groups: int = 1,
        shuffle: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        depthwise = partial(nn.Conv2d, channels, channels, 3, groups=channels)
        self.depthwise1 = depthwise(padding=1)
        self.pointwise1 = nn.Conv2d(channels, channels, 1, groups=groups)
        self.bn1 = BatchNorm(channels)
        self.shuffle = shuffle()
        self.depthwise2 = depthwise(padding=dilation, dilation=dilation)
        self.pointwise2 = nn.Conv2d(channels, channels, 1, groups=groups)
        self.bn2 = BatchNorm(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = F.relu(self.bn1(self.pointwise1(self.depthwise1(x))))
        y = self.bn2(self.pointwise2(self.depthwise2(self.shuffle(y))))
        return F.relu(self.dropout(y) + x)


class LightUpsampler(nn.Module):
    """Doubles the grid with a 1x1 convolution and bilinear interpolation (table 4).

    The two commute, so the convolution comes first, where it costs a quarter.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.bn = BatchNorm(outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k 2*h 2*w"]:
        x = self.conv(x)
        doubled = resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), align_corners=False)
        return F.relu(self.bn(doubled))


def encoder(groups: int, shuffle: Callable[[], nn.Module], near: int, far: int) -> Encoder:
    """ERFNet's encoder whose last `near` modules at 64 and last `far` at 128 channels are Conv-modules."""
    replaced = partial(ConvModule, groups=groups, shuffle=shuffle)
    dilations = (2, 4, 8, 16) * 2
    at_64: list[Module] = [NonBottleneck1d] * (5 - near) + [replaced] * near
    at_128: list[Module] = [NonBottleneck1d] * (8 - far) + [replaced] * far
    return Encoder(
        (module(64, 1, 0.03) for module in at_64),
        (module(128, dilation, 0.3) for module, dilation in zip(at_128, dilations, strict=True)),
    )


def grouped_encoder(groups: int = 1, shuffled: bool = False, near: int = 5, far: int = 8) -> Encoder:
    """The encoder of table 3; with near=2 and far=4 that of table 5."""
    return encoder(groups, _shuffle(groups, shuffled), near, far)


def light_decoder(classes: int) -> nn.Sequential:
    """The decoder of table 4; its modules are not grouped."""
    return nn.Sequential(
        LightUpsampler(128, 64), ConvModule(64), ConvModule(64),
        LightUpsampler(64, 16), ConvModule(16), ConvModule(16),
        nn.ConvTranspose2d(16, classes, 2, stride=2),
    )  # fmt: skip


def all_replaced(classes: int, groups: int, shuffled: bool = False) -> ERFNet:
    """Every encoder module is a Conv-module (table 3)."""
    return ERFNet(encoder(groups, _shuffle(groups, shuffled), near=5, far=8), decoder(classes))


def later_replaced(classes: int, groups: int, shuffled: bool = False) -> ERFNet:
    """The last 2 modules at 64 and the last 4 at 128 channels are Conv-modules (tables 2 and 5)."""
    return ERFNet(encoder(groups, _shuffle(groups, shuffled), near=2, far=4), decoder(classes))


def light(classes: int, groups: int) -> ERFNet:
    """Every encoder module is a Conv-module, and the decoder is light (table 4)."""
    return ERFNet(encoder(groups, nn.Identity, near=5, far=8), light_decoder(classes))


def _shuffle(groups: int, shuffled: bool) -> Callable[[], nn.Module]:
    return partial(nn.ChannelShuffle, groups) if shuffled else nn.Identity


_erfnet = partial(register, paper="grouping", input=(512, 1024), stride=8)


@_erfnet(parameters=572_863, macs=9_495_773_184)
def erfnet_d_all(classes: int = 19) -> ERFNet:
    """[D*]: all encoder modules depthwise-separable (table 3)."""
    return all_replaced(classes, groups=1)


@_erfnet(parameters=421_311, macs=7_750_942_720)
def erfnet_dg2_all(classes: int = 19) -> ERFNet:
    """[DG2*]: as D*, pointwise convolutions in 2 groups (table 3)."""
    return all_replaced(classes, groups=2)


@_erfnet(parameters=345_535, macs=6_878_527_488)
def erfnet_dg4_all(classes: int = 19) -> ERFNet:
    """[DG4*]: as D*, pointwise convolutions in 4 groups (table 3)."""
    return all_replaced(classes, groups=4)


@_erfnet(parameters=307_647, macs=6_442_319_872)
def erfnet_dg8_all(classes: int = 19) -> ERFNet:
    """[DG8*]: as D*, pointwise convolutions in 8 groups (table 3)."""
    return all_replaced(classes, groups=8)


@_erfnet(parameters=421_311, macs=7_750_942_720)
def erfnet_dg2s_all(classes: int = 19) -> ERFNet:
    """[DG2S*]: as DG2*, channels shuffled between the groups (table 3)."""
    return all_replaced(classes, groups=2, shuffled=True)


@_erfnet(parameters=345_535, macs=6_878_527_488)
def erfnet_dg4s_all(classes: int = 19) -> ERFNet:
    """[DG4S*]: as DG4*, channels shuffled between the groups (table 3)."""
    return all_replaced(classes, groups=4, shuffled=True)


@_erfnet(parameters=307_647, macs=6_442_319_872)
def erfnet_dg8s_all(classes: int = 19) -> ERFNet:
    """[DG8S*]: as DG8*, channels shuffled between the groups (table 3)."""
    return all_replaced(classes, groups=8, shuffled=True)


@_erfnet(parameters=1_338_431, macs=18_702_270_464)
def erfnet_d(classes: int = 19) -> ERFNet:
    """[D]: the later encoder modules depthwise-separable (table 5)."""
    return later_replaced(classes, groups=1)


@_erfnet(parameters=1_264_703, macs=17_896_964_096)
def erfnet_dg2(classes: int = 19) -> ERFNet:
    """[DG2]: as D, pointwise convolutions in 2 groups (table 5)."""
    return later_replaced(classes, groups=2)


@_erfnet(parameters=1_227_839, macs=17_494_310_912)
def erfnet_dg4(classes: int = 19) -> ERFNet:
    """[DG4]: as D, pointwise convolutions in 4 groups (table 5)."""
    return later_replaced(classes, groups=4)


@_erfnet(parameters=1_209_407, macs=17_292_984_320)
def erfnet_dg8(classes: int = 19) -> ERFNet:
    """[DG8]: as D, pointwise convolutions in 8 groups (table 5)."""
    return later_replaced(classes, groups=8)


@_erfnet(parameters=1_264_703, macs=17_896_964_096)
def erfnet_dg2s(classes: int = 19) -> ERFNet:
    """[DG2S]: as DG2, channels shuffled between the groups (table 5)."""
    return later_replaced(classes, groups=2, shuffled=True)


@_erfnet(parameters=1_227_839, macs=17_494_310_912)
def erfnet_dg4s(classes: int = 19) -> ERFNet:
    """[DG4S]: as DG4, channels shuffled between the groups (table 5)."""
    return later_replaced(classes, groups=4, shuffled=True)


@_erfnet(parameters=1_209_407, macs=17_292_984_320)
def erfnet_dg8s(classes: int = 19) -> ERFNet:
    """[DG8S]: as DG8, channels shuffled between the groups (table 5)."""
    return later_replaced(classes, groups=8, shuffled=True)


@_erfnet(parameters=414_975, macs=5_486_018_560)
def erfnet_d_light(classes: int = 19) -> ERFNet:
    """[D*]-proposed: D* with the light decoder (table 4)."""
    return light(classes, groups=1)


@_erfnet(parameters=263_423, macs=3_741_188_096)
def erfnet_dg2_light(classes: int = 19) -> ERFNet:
    """[DG2*]-proposed: DG2* with the light decoder (table 4)."""
    return light(classes, groups=2)


@_erfnet(parameters=187_647, macs=2_868_772_864)
def erfnet_dg4_light(classes: int = 19) -> ERFNet:
    """[DG4*]-proposed: DG4* with the light decoder (table 4)."""
    return light(classes, groups=4)


@_erfnet(parameters=385_167, macs=4_423_811_072)
def erfnet_grouped_encoder(
    classes: int = 19, groups: int = 1, shuffled: bool = False, near: int = 5, far: int = 8
) -> ERFNetEncoder:
    """The encoder alone under ERFNet's training head: the first stage (sec. 4.3), where alpha fades."""
    return ERFNetEncoder(grouped_encoder(groups, shuffled, near, far), classes)
