"""What an exported file computes, as a torch module: from pixels to class ids."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle
from kerbseg.core.errors import KerbsegError
from kerbseg.core.types import Preprocessing
from kerbseg.models import use_slices

SMALLEST = 16  # height and width


class PreprocessStage(nn.Module):
    """Network input of uint8 pictures: `Normalize` as engines fold it best.

    A sum in units of pixels and a product; where channels change their order, one pointwise convolution does all three.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (preprocessing.mean, preprocessing.std))
        self.bgr, self.shifted = preprocessing.channels == "bgr", bool(mean.any())
        self.register_buffer("shift", (-255 * mean).float().view(3, 1, 1))
        self.register_buffer("scale", (1 / (255 * std)).float().view(3, 1, 1))
        self.register_buffer("turned", torch.diag(1 / (255 * std)).flip(1).float()[:, :, None, None])
        self.register_buffer("bias", (-mean / std).float())

    def forward(self, pictures: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
        return self.normalized(pictures.float().permute(0, 3, 1, 2))  # TensorRT's parser transposes no uint8

    def normalized(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """The same of float pictures with values from 0 to 255."""
        if self.bgr:
            return nn.functional.conv2d(image, self.get_buffer("turned"), self.get_buffer("bias"))
        return (image + self.get_buffer("shift") if self.shifted else image) * self.get_buffer("scale")


class DeployGraph(nn.Module):
    """Class ids of pictures of one size, and the logits that they follow from.

    The logits are those before the last interpolation; where the picture is no multiple of the network's stride, they
    are of the picture with its right and bottom edge repeated. Outputs that are no class are left out.
    """

    def __init__(self, bundle: Bundle, size: tuple[int, int]) -> None:
        super().__init__()
        if min(size) < SMALLEST:
            raise KerbsegError(f"size {size[0]}x{size[1]} is too small to export; give at least {SMALLEST}x{SMALLEST}")
        self.net = copy.deepcopy(bundle.model).float().eval()
        use_slices(self.net)
        self.pixels = PreprocessStage(bundle.card.preprocessing)
        self.size, self.classes = size, len(bundle.card.labels)
        self.stride = models.card(bundle.card.model).stride

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width that the network works at."""
        return models.padded_size(self.size, self.stride)

    def forward(self, pictures: UInt8[Tensor, "b h w 3"]) -> tuple[UInt8[Tensor, "b h w"], Float[Tensor, "b k H W"]]:
        logits = self.logits_of(self.pixels(pictures))
        upsampled = self.net.upsample(logits, self.padded)  # type: ignore[operator]
        return upsampled[..., : self.size[0], : self.size[1]].argmax(1).to(torch.uint8), logits

    def logits_of(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits of the classes before the last interpolation, of a normalized picture."""
        padded = models.pad_to_stride(image, self.stride)
        logits: Tensor = self.net.logits(padded)[:, : self.classes]  # type: ignore[operator] # every network has them
        return logits
