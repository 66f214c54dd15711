"""Layers that look beyond one picture, made to see the whole batch where several processes share it."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.distributed import Rank


def globalize_layers(net: nn.Module, process: Rank) -> None:
    """Replaces batch-norm and dropout, in place, so that a network does on its rows of a batch what one process would.

    Names of weights stay. Nothing is replaced where there is one process.
    """
    if process.count == 1:
        return
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, ExactSyncBatchNorm.of(child, process))
            elif isinstance(child, nn.Dropout | nn.Dropout2d) and child.p > 0:
                setattr(module, name, SharedDropout(child, process))


class ExactSyncBatchNorm(nn.BatchNorm2d):
    """Batch-norm over the pictures of all processes, each of which has equally many.

    torch's own does not run on a CPU; this one gives the same result on every device.
    """

    process: Rank

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, process: Rank) -> ExactSyncBatchNorm:
        """The same layer, weights and statistics included."""
        made = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made.weight, made.bias = norm.weight, norm.bias
        made.running_mean, made.running_var = norm.running_mean, norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        made.process = process
        return made.train(norm.training)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean = self._mean(x.mean((0, 2, 3)))
        centred = x - mean[:, None, None]
        variance = self._mean(centred.square().mean((0, 2, 3)))
        self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1] * self.process.count)
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        y = centred * scale[:, None, None]
        if self.affine:
            y = y + self.bias[:, None, None]
        return y.to(input.dtype)

    def _mean(self, value: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
        mean: Tensor = _Mean.apply(value, self.process.count)
        return mean

    def _follow(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"], pixels: int) -> None:
        """Moves the running statistics as `nn.BatchNorm2d` does, the variance without its bias."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        globalize_layers = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, globalize_layers)
        self.running_var.lerp_(variance * (pixels / max(1, pixels - 1)), globalize_layers)


class SharedDropout(nn.Module):
    """Dropout that draws for the pictures of all processes, and takes what falls on its own."""

    def __init__(self, dropout: nn.Dropout | nn.Dropout2d, process: Rank) -> None:
        super().__init__()
        self._dropout, self._process = dropout, process

    def forward(self, input: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        if not self.training:
            return input
        p, n = self._dropout.p, len(input)
        if isinstance(self._dropout, nn.Dropout2d):
            kept = F.dropout2d(input.new_ones(n * self._process.count, input.shape[1], 1, 1), p)
        else:
            kept = F.dropout(torch.ones_like(torch.cat([input.detach()] * self._process.count)), p)
        return input * kept[self._process.rows(n)]


class _Mean(torch.autograd.Function):
    """Mean of a tensor over all processes; each gets the gradient of all their losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int) -> Tensor:
        ctx.count = count
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total / ctx.count, None
