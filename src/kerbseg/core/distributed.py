"""Several processes that train one network: each has its rows of every batch, and averages are over all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Rank:
    """One of `count` equal processes; the only one, unless said otherwise.

    What it does is what its share of a single process would be: random numbers are drawn for the whole batch and its
    own rows taken, so that the number of processes does not change the result.
    """

    rank: int = 0
    count: int = 1
    nodes: int = 1  # computers; each has as many of the processes

    @property
    def local_rank(self) -> int:
        """The number of its device on its computer."""
        return self.rank % (self.count // self.nodes)

    def rows(self, n: int) -> slice:
        """Where its n pictures lie in a batch of n for each process."""
        return slice(self.rank * n, (self.rank + 1) * n)

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


SINGLE = Rank()
