"""The one place where pixels become network input: training and every runtime use it, so they cannot disagree."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kerbseg.core.types import Preprocessing


class Normalize(nn.Module):
    """Network input of RGB pixels in 0..1, as a card's preprocessing says; no parameters."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.bgr = preprocessing.channels == "bgr"
        # not persistent: the card is the one record of these numbers
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        if self.bgr:
            image = image.flip(1)
        return (image - self.mean) / self.std

    def undo(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """RGB pixels in 0..1 of network input, for another network."""
        image = image * self.std + self.mean
        return image.flip(1) if self.bgr else image


def to_unit(image: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Pixels in 0..1 with the channels where networks want them."""
    return image.permute(0, 3, 1, 2).to(torch.float32) / 255
