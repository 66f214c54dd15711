"""Several processes that train one network: each has its rows of every batch, and averages are over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from jaxtyping import Float, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Rank:
    """One of `count` equal processes; the only one, unless said otherwise.

    What it does is what its share of a single process would be: random numbers are drawn for the whole batch and its
    own rows taken, so that the number of processes does not change the result.
    """

    index: int = 0
    count: int = 1
    nodes: int = 1  # computers; each has as many of the processes

    @property
    def local_index(self) -> int:
        """The number of its device on its computer."""
        return self.index % (self.count // self.nodes)

    def rows(self, n: int) -> slice:
        """Where its n pictures lie in a batch of n for each process."""
        return slice(self.index * n, (self.index + 1) * n)

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0, *more: int) -> Float[Tensor, "n ..."]:
        """Random numbers for its n pictures.

        Drawn on the CPU, so that one seed gives one augmentation on every device.
        """
        return torch.empty(n * self.count, *more).uniform_(low, high)[self.rows(n)]

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes of a value that needs no gradient."""
        if self.count == 1:
            return value
        total = value.detach().to(torch.float32, copy=True)
        torch.distributed.all_reduce(total)
        return total / self.count

    def gather(self, value: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
        """The rows of all processes, in order, for a loss of the whole batch that each of them computes.

        A gradient comes back to the own rows alone, times the number of processes: training takes the mean over them.
        """
        if self.count == 1:
            return value
        gathered: Tensor = _Gather.apply(value, self)
        return gathered


class _Gather(torch.autograd.Function):
    """All processes' rows, stacked."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rank: Rank) -> Tensor:
        ctx.rank, ctx.rows = rank, rank.rows(len(value))
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(rank.count)]
        torch.distributed.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.rows] * ctx.rank.count, None


SINGLE = Rank()
