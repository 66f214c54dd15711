"""Writes a bundle as an ONNX file, batch-norm folded into convolutions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import UInt8

from kerbseg.bundle import Bundle, versions
from kerbseg.core.errors import MissingExtra
from kerbseg.core.files import atomic_write
from kerbseg.export.graph import DeployGraph
from kerbseg.exported_card import IDS, LOGITS, PICTURES, ExportedCard, LastStageCard
from kerbseg.runtime.onnx import onnxruntime
from kerbseg.runtime.seal import ONNX_SEAL

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

FACTOR = "pixels.scale"  # the buffer of `PreprocessStage`
COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# the oldest version of this opset, for engines of some years ago; docs/deployment.md says which were tried
OPSET, IR_VERSION = 20, 9


def write_onnx(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes the file and returns its cards; with `logits` it has a second output, before the last interpolation.

    Pictures are of one size, any number of them or `batch`. Raises MissingExtra without the packages, KerbsegError if
    the size is too small or the file cannot be written.
    """
    model, exported = converted(bundle, size, logits, batch)
    save(model, exported, path)
    return exported


def converted(
    bundle: Bundle, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> tuple[onnx.ModelProto, ExportedCard]:
    """The network as an ONNX graph, and its cards."""
    try:
        import onnx_ir as ir
        import onnxscript  # noqa: F401 # torch's exporter needs it
    except ImportError as error:
        raise MissingExtra(str(error.name), "export") from error
    deployed = DeployGraph(bundle, size).eval()
    exported = ExportedCard(
        replace(bundle.card, input_size=size, versions=versions()),
        LastStageCard(deployed.padded, bool(deployed.net.align_corners), "float32"),
    )
    model = _traced(deployed, size, batch)
    _fold_crops(model)
    _fold_batch_norm(model)
    _fold_scale(model)
    _fold_sizes(model)
    if not logits:
        del model.graph.outputs[1]
    proto: onnx.ModelProto = ir.to_proto(model)
    return proto, exported


def save(model: onnx.ModelProto, exported: ExportedCard, path: Path) -> None:
    """Writes a graph and its cards, without the shapes of inner tensors, which every engine finds by itself."""
    import onnx

    del model.graph.value_info[:]
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, exported.to_metadata() | exported.for_others())
    with atomic_write(path) as temporary:
        onnx.save(model, temporary)
        ONNX_SEAL.put_on(Path(temporary))


def _traced(deployed: DeployGraph, size: tuple[int, int], batch: int | None) -> ir.Model:
    """The graph of a network, without the notes that a tracer leaves (they hold paths of this machine)."""
    example = torch.zeros(batch or 2, *size, 3, dtype=torch.uint8)  # a batch of one would be taken for a constant
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            deployed,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[PICTURES],
            output_names=[IDS, LOGITS],
            dynamic_shapes={"pictures": {0: torch.export.Dim("batch")}} if batch is None else None,
            verbose=False,
        )
    assert program is not None
    model = program.model
    for value in (*model.graph.all_nodes(), *model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
        value.doc_string = None
    for initializer in model.graph.initializers.values():
        initializer.metadata_props.clear()
    return model


def _fold_crops(model: ir.Model) -> None:
    """Lets a transposed convolution drop its last row and column itself, as TensorFlow's does."""
    import onnx_ir as ir

    for node in list(model.graph):
        made = node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] else None
        if made is None or made.op_type != "ConvTranspose" or len(made.outputs[0].uses()) != 1:
            continue
        start, end, axis, step = (int(np.ravel(value.const_value.numpy())[0]) for value in node.inputs[1:])
        if (start, end, step) != (0, -1, 1):
            continue
        pads = list(made.attributes["pads"].as_ints())
        pads[axis] += 1  # a transposed convolution pads by leaving out; the second half of the list is for ends
        made.attributes["pads"] = ir.AttrInt64s("pads", pads)
        kept, dropped = made.outputs[0], node.outputs[0]
        kept.shape, name = dropped.shape, dropped.name
        ir.convenience.replace_all_uses_with(dropped, kept, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        kept.name = name


def _fold_batch_norm(model: ir.Model) -> None:
    """Folds batch-norm into the convolutions before it, also through a concatenation of branches."""
    from onnxscript import optimizer
    from onnxscript.rewriter import rewrite

    for node in list(model.graph):
        joined = node.inputs[0].producer() if node.op_type == "BatchNormalization" and node.inputs[0] else None
        if joined is not None and joined.op_type == "Concat" and len(joined.outputs[0].uses()) == 1:
            _split(model, node, joined)
    rewrite(model)
    optimizer.optimize(model)


def _fold_scale(model: ir.Model) -> None:
    """Puts the factor of the pixels into the weights of the first convolutions, where nothing else reads them.

    The summand stays: convolutions pad with zeros after it, which no bias makes up for along the border.
    """
    import onnx_ir as ir

    scaled = next((node for node in model.graph if any(value.name == FACTOR for value in node.inputs if value)), None)
    if scaled is None:
        return
    image, factor = scaled.inputs
    readers = [usage.node for usage in scaled.outputs[0].uses()]
    if image is None or factor is None or factor.const_value is None or any(n.op_type != "Conv" for n in readers):
        return
    for reader in readers:
        weight = reader.inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        values = weight.const_value.numpy() * factor.const_value.numpy()
        folded = ir.Value(name=f"{weight.name}_scaled", const_value=ir.tensor(values))
        model.graph.register_initializer(folded)
        reader.replace_input_with(1, folded)
    ir.convenience.replace_all_uses_with(scaled.outputs[0], image)
    model.graph.remove(scaled, safe=True)


def _fold_sizes(model: ir.Model) -> None:
    """Lets an enlargement ask for a factor instead of a size that is put together from the batch's.

    OpenVINO 2024.0 misses such sizes and leaves the logits as small as they are, without a word.
    """
    import onnx_ir as ir

    for node in list(model.graph):
        sizes = node.inputs[3] if node.op_type == "Resize" and len(node.inputs) == 4 else None
        given, made = node.inputs[0], node.outputs[0]
        if sizes is None or given is None or given.shape is None or made.shape is None:
            continue
        before, after = given.shape[2:], made.shape[2:]
        if not all(isinstance(n, int) for n in (*before, *after)):
            continue
        factors = np.array([1, 1, *(_factor(int(n), int(m)) for n, m in zip(before, after, strict=True))], np.float32)
        scales = ir.Value(name=f"{made.name}_scales", const_value=ir.tensor(factors))
        model.graph.register_initializer(scales)
        node.replace_input_with(2, scales)
        node.resize_inputs(3)
        _remove_unread(model, sizes.producer())
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]


def _factor(before: int, after: int) -> np.float32:
    """The least float32 by which a side becomes so long: engines round the product down, however exact it is."""
    factor = np.float32(after / before)
    while before * float(factor) < after:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


def _remove_unread(model: ir.Model, node: ir.Node | None) -> None:
    """Removes a node that nothing reads, and what it alone read."""
    if node is None or any(output.uses() or output.is_graph_output() for output in node.outputs):
        return
    makers = [value.producer() for value in node.inputs if value is not None]
    model.graph.remove(node, safe=True)
    for maker in makers:
        _remove_unread(model, maker)


def _split(model: ir.Model, norm: ir.Node, joined: ir.Node) -> None:
    """Normalizes each branch by itself before they are joined, instead of their concatenation."""
    import onnx_ir as ir

    first, branches = 0, []
    for branch in joined.inputs:
        assert branch is not None
        assert branch.shape is not None
        channels = int(branch.shape[1])
        parts = []
        for index, parameter in enumerate(norm.inputs[1:]):
            assert parameter is not None
            assert parameter.const_value is not None
            values = np.ascontiguousarray(parameter.const_value.numpy()[first : first + channels])
            part = ir.Value(name=f"{norm.name}_{first}_{index}", const_value=ir.tensor(values))
            model.graph.register_initializer(part)
            parts.append(part)
        each = ir.node("BatchNormalization", [branch, *parts], attributes=dict(norm.attributes))
        each.outputs[0].shape, each.outputs[0].dtype = branch.shape, branch.dtype
        model.graph.insert_before(norm, each)
        branches.append(each.outputs[0])
        first += channels
    whole = ir.node("Concat", branches, attributes=dict(joined.attributes))
    whole.outputs[0].shape, whole.outputs[0].dtype = norm.outputs[0].shape, norm.outputs[0].dtype
    model.graph.insert_before(norm, whole)
    ir.convenience.replace_all_uses_with(norm.outputs[0], whole.outputs[0])
    model.graph.remove([norm, joined], safe=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporter says of itself stays out of the user's sight."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class OnnxGraph:
    """An `onnx.ModelProto` as int8 needs it (`int8.Graph`); in int8 it has pairs of (De)QuantizeLinear (QDQ)."""

    converted = staticmethod(converted)
    save = staticmethod(save)

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        return {PICTURES: picture}

    def opened(self, model: Any) -> Callable[[UInt8[np.ndarray, "1 h w 3"]], UInt8[np.ndarray, "1 h w"]]:
        session = onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return lambda picture: session.run([IDS], {PICTURES: picture})[0]

    def after_logits(self, model: Any) -> list[str]:
        reached, names = {LOGITS}, []
        for node in model.graph.node:  # in topological order
            if reached & set(node.input):
                reached.update(node.output)
                names.append(node.name)
        return names

    def in_float(self, model: Any) -> list[str]:
        maker = {output: node.op_type for node in model.graph.node for output in node.output}
        return [
            node.name
            for node in model.graph.node
            if node.op_type in COMPUTING and maker.get(node.input[0]) != "DequantizeLinear"
        ]
