"""What every registered network is: logits at its own resolution, and one way to the picture's size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SegmentationNet(nn.Module):
    """A module from float [b 3 h w] to logits [b k h w]; a family writes `logits` alone.

    Raises InputError (from `logits`) for a picture whose size, type or values the network cannot take.
    """

    align_corners = False  # of the last interpolation, as the paper's code has it

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits at the network's own resolution, before the last interpolation (if it needs one)."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def upsample(self, logits: Float[Tensor, "b k h w"], size: tuple[int, int]) -> Float[Tensor, "b k H W"]:
        """Logits at `size` (height, width)."""
        return resize(logits, size, self.align_corners)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        return self.upsample(self.logits(image), (image.shape[-2], image.shape[-1]))


def resize(features: Float[Tensor, "b c h w"], size: tuple[int, int], align_corners: bool) -> Float[Tensor, "b c H W"]:
    """Bilinear interpolation; `align_corners` differs between papers and changes the result."""
    if features.shape[-2:] == size:
        return features
    return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=align_corners)
