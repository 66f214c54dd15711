"""SegNet (Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017), both sizes, written from its paper.

From the paper (sec. 3 and 3.1): encoders of convolution, batch-norm, ReLU and 2x2 pooling; decoders in mirror order
that put each value back where its maximum lay, then convolve and normalize; a classifier over the last decoder's map.
SegNet-Basic has four of each, 7x7 convolutions of 64 channels without bias, and no ReLU in its decoders. SegNet has
the 13 convolutions of VGG-16 and their mirror image.

Decided here, as the paper is silent: a map of odd size is pooled with its last row and column (rounded up, as the
authors' code does), so any size will do; SegNet-Basic's classifier is 1x1, as in that code; SegNet's convolutions have
biases as VGG's have, its decoders ReLU, and its classifier is the mirror of the first convolution (3x3, 64 to classes).

Paper and code of SegNet-Basic differ, and `as_code` takes the code's side: every convolution has a bias, and in place
of the paper's local contrast normalization of pictures, which is no part of the network here, values are divided by the
energy of their pixel (Caffe's LRN layer). The paper prints 1.425 M parameters with 11 classes; these are 1,416,075, and
1,416,587 as in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from kerbseg.models._input import check_input
from kerbseg.models._net import SegmentationNet
from kerbseg.models._registry import register
from kerbseg.models._unpooling import ByIndex, Unpooling

VGG16 = (2, 64), (2, 128), (3, 256), (3, 512), (3, 512)  # convolutions, channels
Unit = Callable[[int, int], nn.Module]  # inputs, outputs


class LocalResponse(nn.Module):
    """Divides the three values of a pixel by a power of their energy, on 0..255 (alpha 1e-4, beta .75, window 5)."""

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        x = 255 * image
        energy = x.square().sum(dim=1, keepdim=True)  # a window of 5 channels holds all 3, wherever it stands
        return x / (1 + 1e-4 / 5 * energy) ** 0.75


def wide(inputs: int, outputs: int, bias: bool = False) -> nn.Sequential:
    """A 7x7 convolution, normalized: SegNet-Basic's decoder."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 7, padding=3, bias=bias), nn.BatchNorm2d(outputs))


def wide_rectified(inputs: int, outputs: int, bias: bool = False) -> nn.Sequential:
    """A 7x7 convolution, normalized and rectified: SegNet-Basic's encoder."""
    return wide(inputs, outputs, bias).append(nn.ReLU())


def vgg(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, normalized and rectified."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class SegNet(SegmentationNet):
    """Class logits at the picture's size; any size will do that leaves the deepest map a pixel."""

    def __init__(self, encoders: Sequence[nn.Module], decoders: Sequence[nn.Module], classifier: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.decoders = nn.ModuleList(decoders)  # the deepest first
        self.classifier = classifier
        self.unpooling: Unpooling = ByIndex()

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits at the picture's size."""
        check_input(image, stride=1, smallest=2 ** len(self.encoders))
        x, kept = image, []
        for encoder in self.encoders:
            x = encoder(x)
            size = (x.shape[-2], x.shape[-1])
            x, where = self.unpooling.pool(x)
            kept.append((where, size))
        for decoder in self.decoders:
            where, size = kept.pop()
            x = decoder(self.unpooling.unpool(x, where, size))
        return self.classifier(x)


def chain(unit: Unit, *channels: int) -> nn.Sequential:
    """Units one after the other, of the channels between them."""
    return nn.Sequential(*(unit(*pair) for pair in pairwise(channels)))


@register(paper="segnet", parameters=1_416_595, macs=59_277_312_000, input=(360, 480), stride=1)
def segnet_basic(classes: int = 19, as_code: bool = False) -> SegNet:
    """SegNet-Basic (sec. 3.1), a baseline of ERFNet and MiniNet-v2."""
    encoders = [wide_rectified(inputs, 64, bias=as_code) for inputs in (3, 64, 64, 64)]
    if as_code:
        encoders[0].insert(0, LocalResponse())
    return SegNet(encoders, [wide(64, 64, bias=as_code) for _ in range(4)], nn.Conv2d(64, classes, 1))


@register(paper="segnet", parameters=29_453_971, macs=143_344_926_720, input=(360, 640), stride=1)
def segnet(classes: int = 19) -> SegNet:
    """SegNet on VGG-16 (fig. 2), whose costs the later papers print, even where they say SegNet-basic."""
    encoders, decoders, inputs = [], [], 3
    for depth, channels in VGG16:
        encoders.append(chain(vgg, inputs, *[channels] * depth))
        # the decoder of the first encoder ends in the classifier instead of a unit
        ends = [] if inputs == 3 else [inputs]
        decoders.append(chain(vgg, *[channels] * depth, *ends))
        inputs = channels
    return SegNet(encoders, decoders[::-1], nn.Conv2d(64, classes, 3, padding=1))
