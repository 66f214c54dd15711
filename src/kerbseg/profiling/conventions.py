"""How papers count. Each function gives a paper's own figure for a network; the true count is `cost`.

A network is never bent to a paper's arithmetic: the arithmetic stands here, under the paper's name.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kerbseg.core.errors import KerbsegError
from kerbseg.models.erfnet import ERFNet
from kerbseg.profiling.cost import cost


@dataclass(frozen=True)
class Counted:
    """A paper's count; `operations` are what the paper calls them, see each convention."""

    parameters: int
    operations: float


Convention = Callable[[nn.Module, tuple[int, int]], Counted]


def true(net: nn.Module, size: tuple[int, int]) -> Counted:
    """All parameters; multiply-accumulates of convolutions and linear layers."""
    of_net = cost(net, size)
    return Counted(of_net.parameters, of_net.macs)


def flops(net: nn.Module, size: tuple[int, int]) -> Counted:
    """All parameters; twice the multiply-accumulates."""
    of_net = cost(net, size)
    return Counted(of_net.parameters, of_net.flops)


def grouping_paper(net: nn.Module, size: tuple[int, int]) -> Counted:
    """The arithmetic behind tables 3 to 5 of the gradual-grouping paper; its 'GFLOPs' are MACs.

    Weights of convolutions only, without biases and batch-norm; a downsampler is a dense 3x3 convolution to all its
    outputs; one module in each decoder stage, though the network has two; upsampling is charged at its output's
    resolution, and the last layer at its input's. Raises KerbsegError for what is no ERFNet, nor a grouped variant.
    """
    weights = macs = 0
    for count, pixels in _grouping_terms(net, size):
        weights += count
        macs += count * pixels
    return Counted(weights, macs)


def _grouping_terms(net: nn.Module, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(weights, pixels they are charged for) of every part that the paper counts."""
    if not isinstance(net, ERFNet):
        raise KerbsegError(
            f"convention 'grouping_paper' counts ERFNet and its grouped variants only, not a {type(net).__name__};"
            " choose 'true'"
        )
    area, scale = size[0] * size[1], 1
    encoder: Any = net.get_submodule("encoder")
    decoder: Any = net.get_submodule("decoder")
    for module in encoder:
        if type(module).__name__ == "Downsampler":
            scale *= 2
            inputs, outputs = module.conv.in_channels, module.bn.num_features
            yield 9 * inputs * outputs, area // scale**2
        else:
            yield _conv_weights(module), area // scale**2
    for up, module in ((decoder[0], decoder[1]), (decoder[3], decoder[4])):
        scale //= 2
        yield _conv_weights(up), area // scale**2
        yield _conv_weights(module), area // scale**2
    yield _conv_weights(decoder[6]), area // scale**2


def _conv_weights(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


def liteseg_paper(net: nn.Module, size: tuple[int, int]) -> Counted:
    """The counter of LiteSeg's authors ('GFLOPs'): (2 k^2 - 1) for each pair of channels and output pixel of a k x k
    convolution, so 1 for a MAC of a 1x1 and 17/9 for one of a 3x3; batch-norm 2 and ReLU 1 an element, pooling 1 an
    input element. Parameters are all of the network's.
    """
    operations = 0

    def count(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        nonlocal operations
        match module:
            case nn.Conv2d():
                pixels = math.prod(result.shape[2:])
                pairs = module.in_channels * module.out_channels // module.groups
                operations += (2 * math.prod(module.kernel_size) - 1) * pairs * pixels
                operations += module.out_channels * pixels if module.bias is not None else 0
            case nn.BatchNorm2d():
                operations += 2 * result.numel()
            case nn.ReLU() | nn.ReLU6() | nn.LeakyReLU():
                operations += result.numel()
            case nn.MaxPool2d():
                operations += given[0].numel()

    ghost = copy.deepcopy(net).to("meta").eval()
    for module in ghost.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        ghost(torch.empty(1, 3, *size, device="meta"))
    return Counted(sum(parameter.numel() for parameter in net.parameters()), operations)


def tf_profiler(net: nn.Module, size: tuple[int, int]) -> Counted:
    """What TensorFlow's profiler reports for MiniNet-v2's training graph ('GFLOPs').

    2 for a MAC, 1 an element for adding tensors and biases, 4 an output element for max-pooling; and, once, 3 for each
    initialised convolution weight and 2 for each that an L2 term squares (depthwise ones have none). The upsampling of
    the logits is not part of it.
    """
    frozen = tf_frozen(net, size)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    once = sum((3 if m.groups > 1 else 5) * m.weight.numel() for m in convolutions)
    return Counted(frozen.parameters, frozen.operations + once)


def tf_frozen(net: nn.Module, size: tuple[int, int]) -> Counted:
    """What TensorFlow's profiler reports of a frozen graph, whose weights are constants: without what `tf_profiler`
    counts once for a weight.
    """
    counter = _Operations()
    ghost: Any = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad(), counter:
        ghost.logits(torch.empty(1, 3, *size, device="meta"))
    return Counted(sum(parameter.numel() for parameter in net.parameters()), counter.total)


class _Operations(TorchDispatchMode):
    """Counts the operations that TensorFlow's profiler knows."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "convolution":
            self.total += self._convolution(result, *args[:4], transposed=args[6])
        elif name == "add" and result.ndim == 4:
            self.total += result.numel()
        elif name == "max_pool2d_with_indices":
            self.total += 4 * result[0].numel()
        return result

    def _convolution(
        self, result: Tensor, given: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], *, transposed: bool
    ) -> int:
        pixels = math.prod(given.shape[2:]) if transposed else math.prod(result.shape[2:])
        # TensorFlow's transposed convolution ends at stride times its input's size
        outputs = math.prod(stride) * pixels if transposed else pixels
        return 2 * weight.numel() * pixels + (bias.numel() * outputs if bias is not None else 0)


CONVENTIONS: dict[str, Convention] = {
    "true": true,
    "grouping_paper": grouping_paper,
    "liteseg_paper": liteseg_paper,
    "tf_profiler": tf_profiler,
    "tf_frozen": tf_frozen,
}
COUNTINGS: dict[str, Convention] = {**CONVENTIONS, "flops": flops}
"""All ways in which a paper's table may count; `kerbseg profile` shows twice the MACs anyway."""


def parameters_by(convention: str, net: nn.Module) -> int:
    """A paper's count of parameters alone, which needs no run through the network. Raises KerbsegError as the count."""
    if convention == "grouping_paper":
        return grouping_paper(net, (8, 8)).parameters  # whatever the size
    return sum(parameter.numel() for parameter in net.parameters())


def tf_megabytes(net: nn.Module) -> float:
    """MiniNet-v2's 'memory': float32 variables, batch-norm's statistics included, in 2^20 bytes."""
    statistics = sum(m.num_features * 2 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    return 4 * (sum(parameter.numel() for parameter in net.parameters()) + statistics) / 2**20
