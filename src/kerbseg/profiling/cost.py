"""Parameters and multiply-accumulates (MACs) of a network, layer by layer.

Counted without computing anything: a copy of the network runs on torch's meta device. Convolutions, transposed
convolutions (kernel weights times INPUT pixels) and linear layers count; biases, normalization and activations do not.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerCost:
    """One layer that has parameters."""

    name: str
    kind: str
    parameters: int
    macs: int
    output: tuple[int, ...]  # shape, batch of one


@dataclass(frozen=True)
class Cost:
    """A network's cost for one picture of `size` (height, width)."""

    size: tuple[int, int]
    layers: tuple[LayerCost, ...]
    parameters: int
    size_bytes: int  # parameters and buffers, as they are stored

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-accumulate."""
        return 2 * self.macs


def cost(net: nn.Module, size: tuple[int, int]) -> Cost:
    """What the network costs for a picture of (height, width). Raises InputError for a size that it cannot take."""
    rows: list[LayerCost] = []
    ghost = copy.deepcopy(net).to("meta").eval()
    for name, module in ghost.named_modules():
        if next(module.parameters(recurse=False), None) is not None or next(module.children(), None) is None:
            module.register_forward_hook(_recorder(name, rows))
    with torch.no_grad():
        ghost(torch.empty(1, 3, *size, device="meta"))
    return Cost(
        size=size,
        layers=tuple(rows),
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        size_bytes=sum(value.numel() * value.element_size() for value in net.state_dict().values()),
    )


def macs_of(module: nn.Module, given: Tensor, result: Tensor) -> int:
    """Multiply-accumulates of one call of a layer."""
    match module:
        case nn.ConvTranspose2d():
            return module.weight.numel() * given.shape[0] * math.prod(given.shape[2:])
        case nn.Conv2d():
            return module.weight.numel() * result.shape[0] * math.prod(result.shape[2:])
        case nn.Linear():
            return module.weight.numel() * math.prod(result.shape[:-1])
        case _:
            return 0


def _recorder(name: str, rows: list[LayerCost]) -> Any:
    def record(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        parameters = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        macs = macs_of(module, given[0], result) if isinstance(result, Tensor) else 0
        if parameters or macs:
            rows.append(LayerCost(name, type(module).__name__, parameters, macs, tuple(result.shape)))

    return record
