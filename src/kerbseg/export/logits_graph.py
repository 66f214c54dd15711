"""What the small engines get: from pixels to logits, as a graph of torch's operations with batch-norm folded.

LiteRT, ExecuTorch and ncnn all take a module of torch, and end at the logits: the last stage is our own there.
Batch-norm is folded here, before any of them looks at the network, so that all run the same graph.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, fx

from kerbseg.bundle import Bundle, versions
from kerbseg.core.errors import KerbsegError
from kerbseg.export.graph import DeployGraph
from kerbseg.exported_card import ExportedCard, LastStageCard
from kerbseg.models import use_shuffles

ATEN = torch.ops.aten
CONVOLUTIONS = {ATEN.conv2d.default: 0, ATEN.conv_transpose2d.input: 1}  # and the axis of the channels they give
PASSING = (ATEN.dropout.default, ATEN.feature_dropout.default, ATEN.alias.default)
Input = Literal["uint8 nhwc", "float nchw"]


class LogitsGraph(DeployGraph):
    """Logits of the classes before the last interpolation, [1 H W k] or [1 k H W] as the pictures come.

    `takes` is 'uint8 nhwc' pictures [1 h w 3], or 'float nchw' [1 3 h w] of the same values, 0 to 255.
    """

    def __init__(self, bundle: Bundle, size: tuple[int, int], takes: Input = "uint8 nhwc") -> None:
        super().__init__(bundle, size)
        self.takes = takes
        if takes == "float nchw":
            use_shuffles(self.net)  # ncnn has no comparisons

    def check_options(self, suffix: str, logits: bool, batch: int | None) -> None:
        """Raises KerbsegError for what such files do not have: they give nothing but logits, of one picture."""
        if logits:
            raise KerbsegError(f"{suffix} files give logits anyway, and no ids; leave --logits out")
        if batch not in (None, 1):
            raise KerbsegError(f"{suffix} files take one picture at a time, not {batch}; leave --batch out")

    @property
    def example(self) -> Tensor:
        """A picture as the graph takes it."""
        if self.takes == "uint8 nhwc":
            return torch.zeros(1, *self.size, 3, dtype=torch.uint8)
        return torch.zeros(1, 3, *self.size)

    def forward(self, pictures: Tensor) -> Tensor:  # type: ignore[override] # one output of the two
        if self.takes == "uint8 nhwc":
            return self.logits_of(self.pixels(pictures)).permute(0, 2, 3, 1)
        return self.logits_of(self.pixels.normalized(pictures))


def traced(graph: LogitsGraph) -> fx.GraphModule:
    """The graph in torch's operations, batch-norm and the factor of the pixels folded into convolutions."""
    with torch.no_grad():
        module = torch.export.export(graph.eval(), (graph.example,), strict=False).module()
    assert isinstance(module, fx.GraphModule)
    _drop_what_training_needs(module)
    fold_batch_norm(module)
    fold_factor(module)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def fold_batch_norm(module: fx.GraphModule) -> None:
    """Puts each batch-norm into the convolution before it, also through a concatenation of branches.

    What is left, after a pooling for one, is a product and a sum of each channel.
    """
    for node in list(module.graph.nodes):
        if node.target == ATEN.batch_norm.default:
            weight, bias, mean, variance = (constant(module, each) for each in node.args[1:5])
            assert mean is not None
            assert variance is not None
            scale = (variance.double() + node.args[7]).rsqrt()
            scale = scale if weight is None else scale * weight.double()
            shift = -mean.double() * scale
            shift = shift if bias is None else shift + bias.double()
            changed = _scaled(module, node.args[0], node, scale, shift)
            node.replace_all_uses_with(changed)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()


def fold_factor(module: fx.GraphModule) -> None:
    """Puts the factor of the pixels into the first convolutions, where nothing else reads them.

    The summand stays: convolutions pad with zeros after it, which no bias makes up for along the border.
    """
    for node in list(module.graph.nodes):
        if node.target != ATEN.mul.Tensor:
            continue
        factor = constant(module, node.args[1])
        readers = list(node.users)
        if factor is None or factor.shape != (3, 1, 1):
            continue
        if all(one.target == ATEN.conv2d.default and _option(one, 6, 1) == 1 for one in readers):
            for reader in readers:
                kernel = constant(module, reader.args[1])
                assert kernel is not None
                changed = put(module, reader, kernel * factor[None])
                reader.args = (node.args[0], changed, *reader.args[2:])
            module.graph.erase_node(node)
        return


def _scaled(module: fx.GraphModule, made: Any, before: fx.Node, scale: Tensor, shift: Tensor) -> Any:
    """What gives `made * scale + shift`, channel by channel."""
    if len(made.users) == 1 and made.target in CONVOLUTIONS:
        return _folded(module, made, scale, shift)
    if len(made.users) == 1 and made.target == ATEN.cat.default and _option(made, 1, 0) in (1, -3):
        sizes = [int(branch.meta["val"].shape[1]) for branch in made.args[0]]
        parts = zip(made.args[0], scale.split(sizes), shift.split(sizes), strict=True)
        branches = [_scaled(module, branch, before, *part) for branch, *part in parts]
        with module.graph.inserting_before(before):
            return _as(made, module.graph.call_function(ATEN.cat.default, (branches, 1)))
    scale_at, shift_at = (put(module, before, values.float()[:, None, None]) for values in (scale, shift))
    with module.graph.inserting_before(before):
        product = _as(made, module.graph.call_function(ATEN.mul.Tensor, (made, scale_at)))
        return _as(made, module.graph.call_function(ATEN.add.Tensor, (product, shift_at)))


def _folded(module: fx.GraphModule, made: Any, scale: Tensor, shift: Tensor) -> Any:
    kernel = constant(module, made.args[1])
    bias = constant(module, made.args[2]) if len(made.args) > 2 else None
    assert kernel is not None
    if made.target == ATEN.conv2d.default:
        kernel = kernel.double() * scale[:, None, None, None]
    else:  # [in, out / groups, h, w]
        groups = _option(made, 6, 1)
        per_group = scale.view(groups, 1, -1, 1, 1)
        shaped = kernel.double().view(groups, kernel.shape[0] // groups, *kernel.shape[1:])
        kernel = (shaped * per_group).reshape(kernel.shape)
    whole = shift if bias is None else shift + bias.double() * scale
    kernel_at, bias_at = (put(module, made, values.float()) for values in (kernel, whole))
    made.args = (made.args[0], kernel_at, bias_at, *made.args[3:])
    return made


def _drop_what_training_needs(module: fx.GraphModule) -> None:
    """Takes out dropout, which passes everything on in eval mode, and torch's checks of types."""
    for node in list(module.graph.nodes):
        if node.target in PASSING:
            node.replace_all_uses_with(node.args[0])
        elif node.target != ATEN._assert_tensor_metadata.default:
            continue
        module.graph.erase_node(node)


def constant(module: fx.GraphModule, node: Any) -> Tensor | None:
    """The values of a parameter or buffer; None for anything else."""
    if not (isinstance(node, fx.Node) and node.op == "get_attr"):
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value.detach() if isinstance(value, Tensor) else None


def put(module: fx.GraphModule, before: fx.Node, values: Tensor) -> Any:
    """A new constant, read just before a node."""
    name = next(name for n in itertools.count() if not hasattr(module, name := f"folded_{n}"))
    module.register_buffer(name, values.contiguous())
    with module.graph.inserting_before(before):
        return module.graph.get_attr(name)


def _option(node: Any, place: int, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else default


def _as(other: Any, node: Any) -> Any:
    """The node with the shape of another."""
    if "val" in other.meta:
        node.meta["val"] = other.meta["val"]
    return node


def program(module: fx.GraphModule, graph: LogitsGraph) -> torch.export.ExportedProgram:
    """The module as torch saves and converters take it."""
    with torch.no_grad():
        return torch.export.export(module, (graph.example,), strict=False)


def crop_transposed(module: fx.GraphModule) -> None:
    """Lets transposed convolutions give their full result, cropped after it, where they pad what they give.

    LiteRT's converter (0.10) has no rule for the padding of outputs.
    """
    for node in list(module.graph.nodes):
        if node.target != ATEN.conv_transpose2d.input or not any(_option(node, 5, (0, 0))):
            continue
        padding, sizes = _option(node, 4, [0, 0]), node.meta["val"].shape[2:]
        node.args = (*node.args[:4], [0, 0], [0, 0], *node.args[6:])
        readers, cropped, after = list(node.users), node, node
        for axis, first, length in zip((2, 3), padding, sizes, strict=True):
            with module.graph.inserting_after(after):
                after = module.graph.call_function(ATEN.slice.Tensor, (cropped, axis, first, first + int(length)))
            cropped = after
        for reader in readers:
            reader.replace_input_with(node, cropped)
    module.recompile()


def spread_by_product(module: fx.GraphModule) -> None:
    """Spreads what an average of the whole picture gave, [1 c 1 1], over the map by a product with ones.

    LiteRT's converter (0.10) makes a broadcast that its interpreter refuses.
    """
    for node in list(module.graph.nodes):
        if node.target == ATEN.expand.default:
            shape = node.meta["val"].shape
            ones = put(module, node, torch.ones(1, 1, int(shape[-2]), int(shape[-1])))
            with module.graph.inserting_before(node):
                product = _as(node, module.graph.call_function(ATEN.mul.Tensor, (node.args[0], ones)))
            node.replace_all_uses_with(product)
            module.graph.erase_node(node)
    module.recompile()


def exported_card(graph: LogitsGraph, bundle: Bundle) -> ExportedCard:
    """The cards of a float file of this graph."""
    return ExportedCard(
        replace(bundle.card, input_size=graph.size, versions=versions()),
        LastStageCard(graph.padded, bool(graph.net.align_corners), "float32"),
    )
