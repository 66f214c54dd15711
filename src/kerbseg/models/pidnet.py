"""PIDNet (Xu, Xiong, Bhattacharyya: PIDNet, CVPR 2023, arXiv 2206.02066), after the authors' published code.

Its blocks, heads and deep pyramid are DDRNet's. Three branches, named as in the paper after the parts of a controller:
P keeps details at 1/8 (`layer3_` ...), I gathers context (`layer3` ...), D looks for boundaries (`layer3_d` ...).

Kept from the code, because its weights need it:
* the logits are brought to the picture's size with aligned corners, which no interpolation inside has;
* Pag weighs maps that nobody rectified; the sums that leave the stages are rectified where they are read;
* of the two bottlenecks that end branch I neither is rectified, so the second sees unrectified features;
* the training heads see *rectified* maps: in the authors' code a later ReLU works in place on what they were promised.
  Here that ReLU stands before the heads.

Paper and code differ in PIDNet-M: 34.4 M parameters and 197.4 GFLOPs at 2048x1024 are printed, 28.5 M and 177.3 come
out of the code. S and L agree: 7.6 M and 36.9 M, without the training heads; 47.6 and 275.8 GFLOPs are printed, and
47.2 and 274.9 G multiply-accumulates come out.

Decided here: other sizes than multiples of 8 are refused, as in DDRNet; costs stand at 1024x512, where the other
networks' do (the paper reports 2048x1024).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register
from kerbseg.models.ddrnet import (
    DAPPM,
    PREPROCESSING,
    BasicBlock,
    Bottleneck,
    ConvNorm,
    Features,
    Head,
    NormConv,
    Pyramid,
    Stem,
    check_picture,
    enlarge,
    stage,
    start,
)

Bag = Callable[[int], nn.Module]  # channels -> a fusion of the three branches
Context = Callable[[int, int], Pyramid]  # inputs, outputs -> the pyramid that ends branch I


class PAPPM(Pyramid):
    """Parallel aggregation: the averages, each added to the map, are convolved at once, in four groups."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__(inputs, width, outputs)
        self.scale_process = NormConv(4 * width, 4 * width, 3, groups=4)

    def merge(self, fine: Features, averages: list[Tensor]) -> list[Tensor]:
        return [fine, self.scale_process(torch.cat([average + fine for average in averages], dim=1))]


class Pag(nn.Module):
    """Pixel-attention-guided fusion: each pixel of P takes from I as much as the two are alike there."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.f_x = ConvNorm(channels, width, 1)
        self.f_y = ConvNorm(channels, width, 1)

    def forward(self, p: Features, i: Float[Tensor, "b c p q"]) -> Features:
        alike = torch.sigmoid((self.f_x(p) * enlarge(self.f_y(i), p)).sum(dim=1, keepdim=True))  # b 1 h w
        return (1 - alike) * p + alike * enlarge(i, p)


class LightBag(nn.Module):
    """Boundary-attention-guided fusion, light: P fills in where D sees a boundary, I elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_p = ConvNorm(channels, channels, 1)
        self.conv_i = ConvNorm(channels, channels, 1)

    def forward(self, p: Features, i: Features, d: Features) -> Features:
        edge = torch.sigmoid(d)
        return self.conv_p((1 - edge) * i + p) + self.conv_i(i + edge * p)


class WideBag(nn.Module):
    """The same fusion by one 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = NormConv(channels, channels, 3)

    def forward(self, p: Features, i: Features, d: Features) -> Features:
        edge = torch.sigmoid(d)
        return self.conv(edge * p + (1 - edge) * i)


class PIDNet(SegmentationNet):
    """Class logits at 1/8 of the picture's size; height and width are multiples of 8.

    Handed in: depths m (of what is at 1/8 and finer) and n (of branch I), the pyramid, and the fusion. A wide branch D
    has 2 `planes` from the beginning, and basic blocks; a narrow one begins with half of that.
    """

    align_corners = True

    def __init__(
        self,
        classes: int,
        m: int,
        n: int,
        planes: int,
        head_planes: int,
        context: Context,
        bag: Bag,
        wide_d: bool,
        heads: bool = False,
    ) -> None:
        super().__init__()
        p = planes
        self.conv1 = Stem(p)
        self.layer1 = stage(p, p, m)
        self.layer2 = stage(p, 2 * p, m, stride=2)
        # I
        self.layer3 = stage(2 * p, 4 * p, n, stride=2)
        self.layer4 = stage(4 * p, 8 * p, n, stride=2)
        self.layer5 = nn.Sequential(Bottleneck(8 * p, 8 * p, stride=2), Bottleneck(16 * p, 8 * p))
        # P
        self.compression3 = ConvNorm(4 * p, 2 * p, 1)
        self.compression4 = ConvNorm(8 * p, 2 * p, 1)
        self.pag3 = Pag(2 * p, p)
        self.pag4 = Pag(2 * p, p)
        self.layer3_ = stage(2 * p, 2 * p, m)
        self.layer4_ = stage(2 * p, 2 * p, m)
        self.layer5_ = nn.Sequential(Bottleneck(2 * p, 2 * p))
        # D
        d = 2 * p if wide_d else p
        self.layer3_d = BasicBlock(2 * p, d, end=nn.Identity())
        self.layer4_d = nn.Sequential(BasicBlock(d, d, end=nn.Identity()) if wide_d else Bottleneck(d, d))
        self.diff3 = ConvNorm(4 * p, d, 3)
        self.diff4 = ConvNorm(8 * p, 2 * p, 3)
        self.layer5_d = nn.Sequential(Bottleneck(2 * p, 2 * p))

        self.spp = context(16 * p, 4 * p)
        self.dfm = bag(4 * p)
        if heads:
            self.heads = ("seghead_p", "seghead_d")
            self.seghead_p = Head(2 * p, head_planes, classes)
            self.seghead_d = Head(2 * p, p, 1)
        self.final_layer = Head(4 * p, head_planes, classes)
        start(self)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/8 w/8"]:
        """Logits at 1/8 of the picture's size; those of classes in P and of boundaries in D are for `with_heads`."""
        check_picture(image, self.training)
        x = F.relu(self.layer1(self.conv1(image)))  # b planes h/4 w/4
        x = F.relu(self.layer2(x))  # b 2*planes h/8 w/8
        p, d = self.layer3_(x), self.layer3_d(x)
        i = F.relu(self.layer3(x))  # b 4*planes h/16 w/16
        p = F.relu(self.pag3(p, self.compression3(i)))
        d = F.relu(d + enlarge(self.diff3(i), d))
        if self.heads:
            self.seghead_p(p)
        p, d = self.layer4_(p), self.layer4_d(d)  # b 2*planes h/8 w/8
        i = F.relu(self.layer4(i))  # b 8*planes h/32 w/32
        p = F.relu(self.pag4(p, self.compression4(i)))
        d = F.relu(d + enlarge(self.diff4(i), d))
        if self.heads:
            self.seghead_d(d)
        p, d = self.layer5_(p), self.layer5_d(d)  # b 4*planes h/8 w/8
        i = self.spp(self.layer5(i))  # b 4*planes h/64 w/64
        return self.final_layer(self.dfm(p, enlarge(i, p), d))


_register = partial(register, paper="pidnet", input=(512, 1024), stride=8, preprocessing=PREPROCESSING)


def _small(classes: int, planes: int, heads: bool) -> PIDNet:
    """S and M."""
    return PIDNet(
        classes,
        m=2,
        n=3,
        planes=planes,
        head_planes=128,
        context=lambda inputs, outputs: PAPPM(inputs, 96, outputs),
        bag=LightBag,
        wide_d=False,
        heads=heads,
    )


@_register(parameters=7_625_715, parameters_with_heads=7_720_935, macs=11_798_593_536)
def pidnet_s(classes: int = 19, heads: bool = False) -> PIDNet:
    """PIDNet-S: details, context and boundaries in three branches."""
    return _small(classes, 32, heads)


@_register(parameters=28_538_515, parameters_with_heads=28_763_111, macs=44_332_253_184)
def pidnet_m(classes: int = 19, heads: bool = False) -> PIDNet:
    """PIDNet-M: twice as wide as PIDNet-S; the paper's 34.4 M parameters are not those of its code."""
    return _small(classes, 64, heads)


@_register(parameters=36_939_571, parameters_with_heads=37_314_311, macs=68_733_452_288)
def pidnet_l(classes: int = 19, heads: bool = False) -> PIDNet:
    """PIDNet-L: deeper, with the deep pyramid and a wider branch for boundaries."""
    return PIDNet(
        classes,
        m=3,
        n=4,
        planes=64,
        head_planes=256,
        context=lambda inputs, outputs: DAPPM(inputs, 112, outputs),
        bag=WideBag,
        wide_d=True,
        heads=heads,
    )
