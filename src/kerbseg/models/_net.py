"""What every registered network is: logits at its own resolution, and one way to the picture's size."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SegmentationNet(nn.Module):
    """A module from float [b 3 h w] to logits [b k h w]; a family writes `logits` alone.

    Raises InputError (from `logits`) for a picture whose size, type or values the network cannot take.
    """

    align_corners = False  # of the last interpolation, as the paper's code has it
    heads: tuple[str, ...] = ()  # submodules of this one that only training needs; `logits` runs those that are there

    def logits(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k H W"]:
        """Logits at the network's own resolution, before the last interpolation (if it needs one)."""
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def upsample(self, logits: Float[Tensor, "b k h w"], size: tuple[int, int]) -> Float[Tensor, "b k H W"]:
        """Logits at `size` (height, width)."""
        return resize(logits, size, self.align_corners)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        return self.upsample(self.logits(image), (image.shape[-2], image.shape[-1]))

    def with_heads(
        self, image: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b k H W"], dict[str, Float[Tensor, "b c p q"]]]:
        """What `logits` gives, and each training head's logits by its name, at the resolution of that head.

        Without heads the second is empty. Raises as `logits`.
        """
        seen: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for name in self.heads:
                hooks.enter_context(self.get_submodule(name).register_forward_hook(partial(_keep, seen, name)))
            return self.logits(image), seen


def _keep(seen: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    seen[name] = output


def resize(features: Float[Tensor, "b c h w"], size: tuple[int, int], align_corners: bool) -> Float[Tensor, "b c H W"]:
    """Bilinear interpolation; `align_corners` differs between papers and changes the result."""
    if features.shape[-2:] == size:
        return features
    return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=align_corners)
