"""Weights in half the bytes: float16 in a file, float32 in a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

KERNEL_DIMS = 2  # and more; biases and batch-norm's figures are few, and some of them beyond float16's range


def narrowed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values; kernels in float32 that float16 holds exactly are in float16."""
    return {key: value.half() if _is_half(value) else value for key, value in state.items()}


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values; kernels in float16 are in float32."""
    return {key: value.float() if _is_kernel(value, torch.float16) else value for key, value in state.items()}


@torch.no_grad()
def round_to_half(net: nn.Module) -> None:
    """Rounds the network's kernels, in place, to what float16 holds; a kernel beyond its range stays as it is."""
    for value in net.state_dict().values():
        if _is_kernel(value, torch.float32) and torch.isfinite(rounded := value.half()).all():
            value.copy_(rounded)


def _is_kernel(value: Tensor, dtype: torch.dtype) -> bool:
    return value.dtype == dtype and value.ndim >= KERNEL_DIMS


def _is_half(value: Tensor) -> bool:
    return _is_kernel(value, torch.float32) and bool(torch.equal(value.half().float(), value))
