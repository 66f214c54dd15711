"""Gradual grouping (Vallurupalli, Annamaneni, Varma, Jawahar, Mathew, Nagori: Efficient Semantic Segmentation using
Gradual Grouping, CVPR workshops 2018, sec. 3.3), for the convolutions of any network.

A dense convolution is trained with its weights multiplied by 1 inside the groups it is to have, by alpha outside;
alpha falls from 1 to 0, and the convolution becomes a grouped one.

Two ways in. `apply_grouping` takes a dense network and the choice of convolutions. `make_dense` takes the grouped
network that is to come out and undoes its groups, and nothing else: a channel shuffle stays where it is, so the faded
network of a shuffled variant is that variant. Training uses the second, whose result fits by construction.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kerbseg.compress.convolutions import Conv, Predicate, choose, convolutions, replace, with_groups
from kerbseg.core.errors import KerbsegError, did_you_mean

Shape = Literal["linear", "cosine"]


class Grouping(nn.Module):
    """Weights of a dense convolution, those outside the groups multiplied by alpha.

    alpha is no buffer: it follows from the epoch or step, and an average of weights over time must not average it.
    """

    inside: Bool[Tensor, "o i 1 1"]

    def __init__(self, shape: torch.Size, groups: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.groups, self.alpha = groups, 1.0
        # the same for [out in kh kw] and, transposed, [in out kh kw]: a block of rows meets its block of columns
        rows = torch.arange(shape[0], device=device) // (shape[0] // groups)
        columns = torch.arange(shape[1], device=device) // (shape[1] // groups)
        self.register_buffer("inside", (rows[:, None] == columns)[:, :, None, None], persistent=False)

    def forward(self, weight: Float[Tensor, "o i kh kw"]) -> Float[Tensor, "o i kh kw"]:
        return torch.where(self.inside, weight, weight * self.alpha)


def apply_grouping(net: nn.Module, selection: Predicate | Iterable[str], groups: int) -> tuple[str, ...]:
    """Prepares dense convolutions, in place, to fade into `groups` groups; their names.

    `selection` is name patterns or a predicate such as `Selection`; see `kerbseg.compress.convolutions.choose` for what
    each refuses. alpha begins at 1, where the network computes what it did before, bit for bit.
    """
    names = choose(net, selection, groups)
    fade(net, dict.fromkeys(names, groups))
    return tuple(names)


def make_dense(net: nn.Module, names: Iterable[str] = ()) -> dict[str, int]:
    """Replaces grouped convolutions, in place, by dense ones with fresh weights; their names and group counts.

    `names` are patterns; all grouped convolutions without them. Depthwise ones are left as they are, and so is
    everything between the convolutions. Raises KerbsegError for a pattern without a grouped convolution, or a network
    without any.
    """
    grouped = {name: conv for name, conv in convolutions(net) if 1 < conv.groups < conv.in_channels}
    if not grouped:
        raise KerbsegError(f"{type(net).__name__} has no grouped convolutions to begin dense; take a grouped variant")
    patterns = tuple(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in grouped):
            raise KerbsegError(f"no grouped convolution is called {pattern!r}; {did_you_mean(pattern, grouped)}")
    groups = {}
    for name, conv in grouped.items():
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns):
            replace(net, name, with_groups(conv, 1))
            groups[name] = conv.groups
    return groups


def fade(net: nn.Module, groups: Mapping[str, int]) -> None:
    """Prepares the dense convolutions of these names, in place, to fade into so many groups each."""
    for name, count in groups.items():
        conv = net.get_submodule(name)
        if parametrize.is_parametrized(conv):
            raise KerbsegError(f"{name} has its weights computed already; group a convolution once")
        weight = conv.weight
        assert isinstance(weight, Tensor)
        # unsafe: it is known to keep shape and dtype, and need not be tried
        parametrize.register_parametrization(conv, "weight", Grouping(weight.shape, count, weight.device), unsafe=True)


def set_alpha(net: nn.Module, alpha: float) -> None:
    """What weights outside the groups are multiplied by, from now on."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"{alpha=} is not in 0..1")
    for _, grouping in groupings(net):
        grouping.alpha = alpha


def collapse(net: nn.Module) -> nn.Module:
    """A copy in which each prepared convolution is truly grouped: the network at alpha 0, up to rounding."""
    made = copy.deepcopy(net)
    for conv, grouping in list(groupings(made)):
        original = _original(conv)
        # torch's own removal would take the weight from `net` too: a copy shares its class
        conv.__class__ = type(conv).__bases__[0]
        del conv.parametrizations
        conv.groups = grouping.groups
        conv.weight = nn.Parameter(_blocks(original.detach(), grouping.groups), original.requires_grad)
    return made


def alpha_at(done: float, until: float, shape: Shape = "linear") -> float:
    """alpha when the share `done` of training is over: from 1 down to 0 at `until`, and 0 from there on."""
    if done >= until:
        return 0.0
    return 1 - done / until if shape == "linear" else (1 + math.cos(math.pi * done / until)) / 2


def outside_share(net: nn.Module) -> float:
    """Share of the prepared convolutions' squared weights that lies outside the groups, and will be lost."""
    outside = total = 0.0
    for conv, grouping in groupings(net):
        square = _original(conv).detach().double().square()
        outside += float(square.masked_fill(grouping.inside, 0).sum())
        total += float(square.sum())
    return outside / total if total else 0.0


def groupings(net: nn.Module) -> Iterator[tuple[Conv, Grouping]]:
    """Convolutions that are prepared to fade, each with what fades it."""
    for _, conv in convolutions(net):
        if parametrize.is_parametrized(conv, "weight"):
            for part in _parts(conv):
                if isinstance(part, Grouping):
                    yield conv, part


def _parts(conv: nn.Module) -> parametrize.ParametrizationList:
    parts = cast(nn.ModuleDict, conv.parametrizations)["weight"]
    assert isinstance(parts, parametrize.ParametrizationList)
    return parts


def _original(conv: nn.Module) -> Tensor:
    original = _parts(conv).original
    assert isinstance(original, Tensor)
    return original


def _blocks(weight: Float[Tensor, "o i kh kw"], groups: int) -> Float[Tensor, "o i_per_group kh kw"]:
    """The diagonal blocks, one below the other."""
    return torch.cat([rows.chunk(groups, dim=1)[index] for index, rows in enumerate(weight.chunk(groups))])
