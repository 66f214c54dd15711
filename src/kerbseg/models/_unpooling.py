"""Max-pooling that remembers where the maxima lay, and the way back (SegNet, ENet), in three equal forms.

By index is torch's own, and the faster to train. By slices needs only operations that engines of ONNX files run fast:
OpenVINO, for one, has a slow reference kernel for pooling with indices. By shuffles needs neither comparisons nor
slices with a step nor tensors of five axes, none of which ncnn has.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class Unpooling(Protocol):
    """A pair of a 2x2 pooling and its way back; a last odd row or column makes windows of its own.

    How a form tells where maxima lay is its own affair.
    """

    def pool(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c H W"], Any]:
        """Maxima, and where they lay."""

    def unpool(self, x: Float[Tensor, "b c H W"], where: Any, size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
        """Values at the places of the maxima, zeros elsewhere."""


class ByIndex(nn.Module):
    """Torch's own operations."""

    def pool(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c H W"], Int[Tensor, "b c H W"]]:
        """Maxima, and their flat indices."""
        pooled, where = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        return pooled, where

    def unpool(
        self, x: Float[Tensor, "b c H W"], where: Int[Tensor, "b c H W"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        """Values at those indices, zeros elsewhere."""
        return F.max_unpool2d(x, where, [2, 2], output_size=list(size))


class BySlices(nn.Module):
    """The four corners of all windows as four maps."""

    def pool(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c H W"], Int[Tensor, "b c H W"]]:
        """Maxima, and which corner of the window, 0 to 3 by rows, is the first to have it."""
        height, width = x.shape[-2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2), value=torch.finfo(x.dtype).min)
        corners = [x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)]
        upper, lower = torch.maximum(corners[0], corners[1]), torch.maximum(corners[2], corners[3])
        pooled = torch.maximum(upper, lower)
        in_upper = torch.where(corners[0] >= corners[1], 0, 1)
        in_lower = torch.where(corners[2] >= corners[3], 2, 3)
        return pooled, torch.where(upper >= lower, in_upper, in_lower)

    def unpool(
        self, x: Float[Tensor, "b c H W"], where: Int[Tensor, "b c H W"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        """Values at those corners, zeros elsewhere."""
        batch, channels, height, width = x.shape
        # a number for zeros: a tensor like x is of a size that ONNX makes while the graph runs
        corners = [torch.where(where == corner, x, 0.0) for corner in range(4)]
        rows = [torch.stack(corners[first : first + 2], dim=-1) for first in (0, 2)]  # each b c H W 2
        whole = torch.stack(rows, dim=3).reshape(batch, channels, 2 * height, 2 * width)
        return whole[..., : size[0], : size[1]]


class ByShuffles(nn.Module):
    """The corners of all windows as channels, told from each other by arithmetic alone."""

    def pool(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c H W"], Float[Tensor, "b 4*c H W"]]:
        """Maxima, and for each corner by rows 1 where it is the first to have it, else 0."""
        channels, height, width = x.shape[1:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2), value=torch.finfo(x.dtype).min)
        pooled = F.max_pool2d(x, 2)
        corners = _transposed(F.pixel_unshuffle(x, 2), channels).chunk(4, dim=1)
        below = [_is_positive(pooled - corner) for corner in corners]
        first, free = [1 - below[0]], below[0]
        for each in below[1:]:
            first.append(free * (1 - each))
            free = free * each
        return pooled, torch.cat(first, dim=1)

    def unpool(
        self, x: Float[Tensor, "b c H W"], where: Float[Tensor, "b 4*c H W"], size: tuple[int, int]
    ) -> Float[Tensor, "b c h w"]:
        """Values at those corners, zeros elsewhere."""
        whole = F.pixel_shuffle(_transposed(torch.cat([x] * 4, dim=1) * where, 4), 2)
        return whole if tuple(whole.shape[2:]) == tuple(size) else whole[..., : size[0], : size[1]]


def _transposed(x: Float[Tensor, "b c h w"], groups: int) -> Float[Tensor, "b c h w"]:
    """Channels in another order: the first of each group, then the second of each, in tensors of four axes."""
    batch, channels, height, width = x.shape
    by_group = x.reshape(batch, groups, channels // groups, height * width)
    return by_group.transpose(1, 2).reshape(batch, channels, height, width)


def _is_positive(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """1 for positive numbers, 0 for 0; there are no others where something is subtracted from its maximum."""
    return (x * 1e30 * 1e30).clamp(max=1)  # one factor alone would leave the smallest below 1


def use_slices(net: nn.Module) -> None:
    """Changes every unpooling of a network, in place, to the form that inference engines run fast."""
    _use(net, BySlices)


def use_shuffles(net: nn.Module) -> None:
    """Changes every unpooling of a network, in place, to the form that ncnn can take."""
    _use(net, ByShuffles)


def _use(net: nn.Module, form: type[nn.Module]) -> None:
    for name, module in list(net.named_modules()):
        if isinstance(module, ByIndex | BySlices | ByShuffles):
            net.set_submodule(name, form())
