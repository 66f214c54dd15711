"""ESPNet (Mehta, Rastegari, Caspi, Shapiro, Hajishirzi: ESPNet, ECCV 2018), as its authors published it.

From the paper: the ESP module (fig. 1, sec. 3) - reduce, split over dilations 1, 2, 4, 8, 16, sum up in a hierarchy,
merge, add the input - and its strided form; K = 5 branches; the networks of fig. 4 with their channels: the picture put
in again at every level, alpha2 = 2 and alpha3 = 8 modules, ESPNet-C with a 1x1 convolution to the classes at 1/8,
ESPNet with its light decoder (reduce, upsample, merge); batch-norm and PReLU after every module; no biases.

From the authors' code, where the paper is silent: batch-norm eps 1e-3; the first branch has the channels left over
where 5 does not divide them, and joins the sum's result as it is; the hierarchy starts at dilation 2; the picture is
put in by average pooling (3x3); a strided module reduces with a strided 3x3 convolution; the decoder's last merge takes
the 16 channels of level 1, without the picture. Their training script, and their weights for CamVid, merge the picture
too (19 channels): `merge_picture`. With 20 outputs ESPNet has 364,569 parameters (the paper prints 0.364 M), with the
picture 365,109; ESPNet-C has 349,449 (0.349 M).

Kept because the authors' weights need it: pixels in BGR order, as (pixel - mean) / spread / 255, all of 0..255.

Decided here: beside the picture, levels 2 and 3 both give what the strided module saw before what the others made of
it; at level 2 the authors turn the two round, so the importer does.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.core.types import Preprocessing
from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register

# mean and spread of Cityscapes' training pictures
PREPROCESSING = Preprocessing(
    channels="bgr",
    mean=(72.3923111 / 255, 82.90893555 / 255, 73.15840149 / 255),
    std=(45.3192215, 46.15289307, 44.91483307),
)

BRANCHES = 5  # K
BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)
Features = Float[Tensor, "b c h w"]


def norm(channels: int) -> nn.Sequential:
    """Batch-norm and a PReLU slope for every channel."""
    return nn.Sequential(BatchNorm(channels), nn.PReLU(channels))


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the grid, or halves it."""
    padding = kernel // 2 * dilation
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def double(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles the grid."""
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)


class ESP(nn.Module):
    """Efficient spatial pyramid: five dilated convolutions over one narrow map, summed in a hierarchy (fig. 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        branches = min(BRANCHES, outputs)  # the decoder's are as wide as there are classes, which may be fewer
        width = outputs // branches
        first = outputs - (branches - 1) * width
        self.reduce = conv(inputs, width, 3, stride) if stride > 1 else conv(inputs, width, 1)
        self.near = conv(width, first, 3)
        self.far = nn.ModuleList(conv(width, width, 3, dilation=2**k) for k in range(1, branches))
        self.norm = norm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Features) -> Float[Tensor, "b k H W"]:
        narrow = self.reduce(x)
        sums = accumulate(branch(narrow) for branch in self.far)  # without them, the dilations show as a grid
        y = torch.cat([self.near(narrow), *sums], dim=1)
        return self.norm(x + y if self.residual else y)


class Level(nn.Module):
    """A strided ESP module, more of them, and beside their result what the first saw and the picture."""

    def __init__(self, inputs: int, outputs: int, depth: int, picture: int) -> None:
        super().__init__()
        self.down = ESP(inputs, outputs, stride=2)
        self.modules_ = nn.Sequential(*(ESP(outputs, outputs) for _ in range(depth)))
        self.norm = norm(2 * outputs + picture)

    def forward(self, x: Features, *picture: Features) -> Float[Tensor, "b k h/2 w/2"]:
        x = self.down(x)
        return self.norm(torch.cat([x, self.modules_(x), *picture], dim=1))


class Encoder(nn.Module):
    """Maps at 1/2 (without and with the picture), 1/4 and 1/8 of the picture's size (fig. 4)."""

    def __init__(self, alpha2: int, alpha3: int) -> None:
        super().__init__()
        self.level1 = nn.Sequential(conv(3, 16, 3, stride=2), norm(16))
        self.norm1 = norm(19)
        self.level2 = Level(19, 64, alpha2, picture=3)
        self.level3 = Level(131, 128, alpha3, picture=0)
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Features, Features, Features, Features]:
        check_input(image, stride=8)
        half = self.halve(image)
        bare = self.level1(image)  # b 16 h/2 w/2
        first = self.norm1(torch.cat([bare, half], dim=1))  # b 19 h/2 w/2
        second = self.level2(first, self.halve(half))  # b 131 h/4 w/4
        return bare, first, second, self.level3(second)  # b 256 h/8 w/8


class ESPNetC(SegmentationNet):
    """Class logits at 1/8 of the picture's size (fig. 4c), upsampled to the whole; sizes are multiples of 8."""

    def __init__(self, classes: int, alpha2: int, alpha3: int) -> None:
        super().__init__()
        self.encoder = Encoder(alpha2, alpha3)
        self.head = conv(256, classes, 1)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/8 w/8"]:
        """Logits at 1/8 of the picture's size, where the network ends."""
        return self.head(self.encoder(image)[-1])


class ESPNet(SegmentationNet):
    """Class logits at the picture's size (fig. 4d): every step up reduces to the classes, doubles and merges."""

    def __init__(self, classes: int, alpha2: int, alpha3: int, merge_picture: bool) -> None:
        super().__init__()
        self.merge_picture = merge_picture
        self.encoder = Encoder(alpha2, alpha3)
        self.reduce3 = conv(256, classes, 1)
        self.up3 = nn.Sequential(BatchNorm(classes), double(classes, classes))
        self.reduce2 = conv(131, classes, 1)
        self.merge2 = nn.Sequential(norm(2 * classes), ESP(2 * classes, classes))
        self.up2 = nn.Sequential(double(classes, classes), norm(classes))
        self.merge1 = nn.Sequential(conv(classes + (19 if merge_picture else 16), classes, 3), norm(classes))
        self.up1 = double(classes, classes)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        bare, first, second, third = self.encoder(image)
        x = self.up3(self.reduce3(third))  # b k h/4 w/4
        x = self.up2(self.merge2(torch.cat([self.reduce2(second), x], dim=1)))  # b k h/2 w/2
        return self.up1(self.merge1(torch.cat([x, first if self.merge_picture else bare], dim=1)))


_espnet = partial(register, paper="espnet", input=(512, 1024), stride=8, preprocessing=PREPROCESSING)


@_espnet(parameters=362_949, macs=4_603_043_840)
def espnet(classes: int = 19, alpha2: int = 2, alpha3: int = 8, merge_picture: bool = False) -> ESPNet:
    """ESPNet (fig. 4d), a baseline of LiteSeg and MiniNet-v2."""
    return ESPNet(classes, alpha2, alpha3, merge_picture)


@_espnet(parameters=349_193, macs=3_468_058_624, main=False)
def espnet_c(classes: int = 19, alpha2: int = 2, alpha3: int = 8) -> ESPNetC:
    """ESPNet-C: ESPNet without its decoder (fig. 4c)."""
    return ESPNetC(classes, alpha2, alpha3)
