"""Averages of a map's parts, and what batch-norm asks of them, for the pyramids of more than one family."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from kerbseg.core.errors import InputError


def average_parts(x: Float[Tensor, "b c h w"], parts: int) -> Float[Tensor, "b c p p"]:
    """Means of `parts` x `parts` rectangles, which overlap by a pixel where they do not divide the map.

    The same as torch's adaptive pooling. Exporters write uneven parts pixel by pixel (a graph of hundreds of nodes for
    16x32 in 3 and 6 parts), so while one looks on, the means are two products with constants.
    """
    height, width = x.shape[-2:]
    if parts == 1:
        return x.mean(dim=(2, 3), keepdim=True)
    if not torch.compiler.is_exporting() or (height % parts == 0 and width % parts == 0):
        return F.adaptive_avg_pool2d(x, parts)
    return _averaging(height, parts, x) @ x @ _averaging(width, parts, x).mT


def _averaging(pixels: int, parts: int, like: Tensor) -> Float[Tensor, "p n"]:
    """What a column of pixels is multiplied by to become the means of its parts."""
    rows = []
    for part in range(parts):
        begin, end = part * pixels // parts, -(-(part + 1) * pixels // parts)
        rows.append([1 / (end - begin) if begin <= pixel < end else 0.0 for pixel in range(pixels)])
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def check_batch(x: Tensor, training: bool) -> None:
    """Refuses to train on one picture where a pyramid averages it whole: raises InputError with the remedy."""
    if training and len(x) == 1:
        raise InputError(
            "this network cannot train on 1 picture at a time: the average of the whole picture leaves batch-norm one"
            " value per channel; use batches of 2 or more, or eval()"
        )
