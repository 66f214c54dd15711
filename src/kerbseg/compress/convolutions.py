"""Convolutions of a network: choosing them, and making one of another number of groups."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked
from torch import nn

from kerbseg.core.errors import KerbsegError, did_you_mean

Conv = nn.Conv2d | nn.ConvTranspose2d
Kind = Literal["pointwise", "spatial", "transposed"]
Predicate = Callable[[str, Conv], bool]  # name in the network, convolution


@dataclass(frozen=True)
class Selection:
    """Dense convolutions by name, type and size. As a predicate it takes what its kinds and channels say.

    Convolutions that the names point at and that cannot be grouped are an error; without names they are left out.
    """

    names: tuple[str, ...] = ()  # patterns such as 'encoder.*.conv?'; every name without them
    kinds: tuple[Kind, ...] = ("pointwise",)
    channels: int = 1  # fewest inputs and outputs

    def __call__(self, name: str, conv: Conv) -> bool:
        named = not self.names or any(fnmatchcase(name, pattern) for pattern in self.names)
        return named and kind(conv) in self.kinds and min(conv.in_channels, conv.out_channels) >= self.channels


def kind(conv: Conv) -> Kind:
    """Pointwise (1x1), spatial, or transposed of any size."""
    if isinstance(conv, nn.ConvTranspose2d):
        return "transposed"
    return "pointwise" if set(conv.kernel_size) == {1} else "spatial"


def convolutions(net: nn.Module) -> Iterator[tuple[str, Conv]]:
    """Every convolution with its name, in the network's order."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            yield name, module


def choose(net: nn.Module, selection: Predicate | Iterable[str], groups: int) -> list[str]:
    """Names of the dense convolutions to be grouped; name patterns alone take any kind and size.

    Raises KerbsegError for a pattern without a dense convolution, for named ones whose channels `groups` does not
    divide, and if none is left. Grouped and depthwise convolutions are never taken.
    """
    if groups < 2:
        raise KerbsegError(f"{groups} group(s) leave a convolution dense; ask for 2 or more")
    if not callable(selection):
        selection = Selection(tuple(selection), get_args(Kind))
    patterns = selection.names if isinstance(selection, Selection) else ()
    dense = {name: conv for name, conv in convolutions(net) if conv.groups == 1}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in dense):
            raise KerbsegError(f"no dense convolution is called {pattern!r}; {did_you_mean(pattern, dense)}")
    chosen = [name for name, conv in dense.items() if selection(name, conv)]
    odd = [name for name in chosen if not divides(dense[name], groups)]
    if patterns and odd:
        sizes = ", ".join(f"{name} ({dense[name].in_channels} to {dense[name].out_channels})" for name in odd)
        raise KerbsegError(
            f"{groups} groups do not divide the channels of {sizes}; leave them out, or take another number"
        )
    if not (taken := [name for name in chosen if name not in odd]):
        raise KerbsegError(f"no convolution of {type(net).__name__} is of these kinds and splits into {groups} groups")
    return taken


def divides(conv: Conv, groups: int) -> bool:
    """Whether a convolution can have that many groups."""
    return conv.in_channels % groups == 0 and conv.out_channels % groups == 0


def with_groups(conv: Conv, groups: int) -> Conv:
    """A convolution of the same class and geometry with `groups` groups and fresh weights.

    They are as large as this family starts them: a weight with half as many inputs beside it is sqrt(2) times larger.
    """
    made = copy.deepcopy(conv)
    made.groups = groups
    ahead, behind = conv.weight.shape[0], conv.weight.shape[1] * conv.groups // groups
    made.weight = nn.Parameter(conv.weight.new_empty(ahead, behind, *conv.kernel_size))
    with torch.no_grad():
        size = conv.weight.square().mean().sqrt() * (conv.weight.shape[1] / behind) ** 0.5
        nn.init.uniform_(made.weight, -1, 1).mul_(size * 3**0.5)  # 3: a uniform value's square is 1/3 on average
    return made


def replace(net: nn.Module, name: str, module: nn.Module) -> None:
    """Puts another module in the place of the one of that name."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _Grouped:
    """How an option describes grouped convolutions."""

    groups: int
    names: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ("pointwise",)
    channels: int = Field(default=1, ge=1)


def group_fresh(net: nn.Module, description: Mapping[str, Any]) -> None:
    """Replaces convolutions by grouped ones with fresh weights, as `{groups, names, kinds, channels}` says.

    Raises KerbsegError if it says something else, or as `choose`.
    """
    try:
        wanted = TypeAdapter(_Grouped).validate_python(dict(description))
    except (ValidationError, TypeError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in ("grouped", *first["loc"]))
        raise KerbsegError(
            f"option {where}: {first['msg']}; it holds groups, and names, kinds, channels if any"
        ) from None
    for name in choose(net, Selection(wanted.names, wanted.kinds, wanted.channels), wanted.groups):
        conv = net.get_submodule(name)
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        replace(net, name, with_groups(conv, wanted.groups))
