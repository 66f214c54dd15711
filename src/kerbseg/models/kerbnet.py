"""KerbNet: the papers' ideas in a network of our own, drawn for 8-bit integers on a processor. No paper.

Whose idea is whose: the residual block of factorized convolutions is half of ERFNet's (T-ITS 2018, fig. 2c); that the
grid shrinks early, and that most of the work is done at 1/8, MiniNet-v2's (T-RO 2020, table I); the shallow skip that
meets the deep features, LiteSeg's (2019, fig. 1); training from scratch, EfficientSeg's (2020). The pointwise and
factorized convolutions can be grouped as in gradual grouping (`grouped`), which is an option and no part of it.

What was measured decided the rest (two cores, AVX-512 VNNI, OpenVINO, int8; share of the machine's ceiling):
* convolutions of 64 channels and more, dense or factorized, run at 84 to 98 %, a strided 3x3 at 81 %, a 1x1 at 47 to
  70 %, a depthwise one at 12 %: so there is no depthwise convolution, and few pointwise ones;
* a concatenation is a copy, and a pooled branch beside a strided convolution costs more than the arithmetic it saves:
  the grid shrinks by strided convolutions alone, and maps are added;
* interpolation, and additions behind it, run in float: there is one of them, over few channels;
* 112 and 48 channels take .72 of MiniNet-v2-cpu's time in int8 (1024x512, one thread, network alone), 128 and 32 take
  .83, ten modules of 96 and 48 take .84; 64 and 32 take .35 to .37;
* a further step down to 1/16 and logits at 1/2 both cost accuracy (CamVid's val split), so there are neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet, resize
from kerbseg.models._registry import register

BatchNorm = partial(nn.BatchNorm2d, eps=1e-3)
DILATIONS = (1, 2, 1, 4, 1, 8)  # of the modules at 1/8, as in MiniNet-v2-cpu


class Downsample(nn.Sequential):
    """Halves the grid with a strided convolution, normalized and rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, BatchNorm(outputs), nn.ReLU())


class Project(nn.Sequential):
    """A normalized 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 1, bias=False), BatchNorm(outputs))


class Factorized(nn.Module):
    """Residual module of one 3x1 and one 1x3 convolution, both dilated: half of ERFNet's block."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        d = dilation
        self.conv3x1 = nn.Conv2d(channels, channels, (3, 1), padding=(d, 0), dilation=(d, 1), bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv1x3 = nn.Conv2d(channels, channels, (1, 3), padding=(0, d), dilation=(1, d), bias=False)
        self.bn2 = BatchNorm(channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = F.relu(self.bn1(self.conv3x1(x)))
        return F.relu(x + self.bn2(self.conv1x3(y)))


class Merge(nn.Module):
    """Deep features at 1/8, doubled, plus shallow ones at 1/4; both are made narrow first, where that is cheap."""

    def __init__(self, deep: int, shallow: int, outputs: int) -> None:
        super().__init__()
        self.deep = Project(deep, outputs)
        self.shallow = Project(shallow, outputs)

    def forward(
        self, deep: Float[Tensor, "b c h w"], shallow: Float[Tensor, "b s 2*h 2*w"]
    ) -> Float[Tensor, "b k 2*h 2*w"]:
        doubled = resize(self.deep(deep), (shallow.shape[-2], shallow.shape[-1]), align_corners=False)
        return F.relu(doubled + self.shallow(shallow))


class KerbNet(SegmentationNet):
    """Class logits at 1/4 of the picture's size, upsampled to the whole; height and width are multiples of 8."""

    def __init__(self, classes: int, wide: int, narrow: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.stem = nn.Sequential(Downsample(3, 16), Downsample(16, 64))
        self.down = Downsample(64, wide)
        self.body = nn.Sequential(*(Factorized(wide, dilation) for dilation in dilations))
        self.merge = Merge(wide, 64, narrow)
        self.refine = Factorized(narrow)
        self.head = nn.Conv2d(narrow, classes, 1)

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h/4 w/4"]:
        """Logits at 1/4 of the picture's size, where the network ends."""
        check_input(image, stride=8)
        skip = self.stem(image)  # b 64 h/4 w/4
        deep = self.body(self.down(skip))  # b wide h/8 w/8
        return self.head(self.refine(self.merge(deep, skip)))


@register(paper="kerbnet", parameters=206_915, macs=2_173_698_048, input=(512, 1024), stride=8)
def kerbnet_s(classes: int = 19) -> KerbNet:
    """KerbNet, small: 64 channels at 1/8, 32 at 1/4, for processors."""
    return KerbNet(classes, wide=64, narrow=32)


@register(paper="kerbnet", parameters=552_403, macs=5_214_044_160, input=(512, 1024), stride=8)
def kerbnet_m(classes: int = 19) -> KerbNet:
    """KerbNet, medium: 112 channels at 1/8, 48 at 1/4."""
    return KerbNet(classes, wide=112, narrow=48)
