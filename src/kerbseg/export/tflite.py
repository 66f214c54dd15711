"""Writes a bundle as a .tflite file for LiteRT, the card in its metadata."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import fx

from kerbseg.bundle import Bundle
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.export.litert_converter import convert, python
from kerbseg.export.logits_graph import LogitsGraph, crop_transposed, exported_card, program, spread_by_product, traced
from kerbseg.export.static_int8 import StaticQuantizer
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.seal import TAIL_SEAL
from kerbseg.runtime.tflite import OFFSET, litert

SIGNATURE, INPUT = "serving_default", "args_0"  # names that the converter gives


def write_tflite(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes the file and returns its cards; weights stay float32.

    Raises MissingExtra without LiteRT, and KerbsegError without its converter or where that cannot take the network.
    """
    litert()
    content, exported = converted(bundle, size, logits, batch)
    save(content, exported, path)
    return exported


def converted(
    bundle: Bundle, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> tuple[bytes, ExportedCard]:
    """The network as LiteRT's converter makes it, and its cards."""
    graph = LogitsGraph(bundle, size)
    graph.check_options(".tflite", logits, batch)
    python()  # what is missing is said before the network is traced
    module = _prepared(graph)
    with TemporaryDirectory() as folder:
        source, made = Path(folder) / "m.pt2", Path(folder) / "m.tflite"
        torch.export.save(program(module, graph), source)
        convert(source, made)
        return made.read_bytes(), exported_card(graph, bundle)


def _prepared(graph: LogitsGraph) -> fx.GraphModule:
    """The graph with what LiteRT's converter cannot do, or does wrong, in other words."""
    module = traced(graph)
    crop_transposed(module)
    spread_by_product(module)
    return module


def save(content: bytes, exported: ExportedCard, path: Path) -> None:
    """Writes a model with its cards, and a digest behind them."""
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(_with_metadata(content, exported.to_metadata() | exported.for_others()))
        TAIL_SEAL.put_on(Path(temporary))


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """A FlatBuffer with entries of ours in its metadata, which interpreters pass over."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content)
    for buffer in model.buffers:
        if buffer.offset > 1:  # the quantizer puts what is large behind the end, where a new end would cut it off
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    model.metadata = list(model.metadata or [])
    for name, text in metadata.items():
        entry, data = schema.MetadataT(), schema.BufferT()
        data.data, data.offset, data.size = list(text.encode()), 0, 0
        model.buffers.append(data)
        entry.name, entry.buffer = name, len(model.buffers) - 1
        model.metadata.append(entry)
    builder = flatbuffers.Builder(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class TfliteQuantizer(StaticQuantizer):
    """By AI Edge Quantizer, on the float file: weights channel by channel, ranges from calibration."""

    def _prepared(self, bundle: Bundle) -> fx.GraphModule:
        self._package = ai_edge_quantizer()
        self._float, self._exported = converted(bundle, self._size)
        self._ranges: Any = None
        return _prepared(self._graph)

    def _model(self, in_float: Collection[str]) -> bytes:
        operations = [name for name, is_convolution, _ in operations_of(self._float) if is_convolution]
        names = self._convolutions()
        if in_float and len(operations) != len(names):
            raise KerbsegError(
                f"LiteRT's converter made {len(operations)} convolutions of {len(names)}, so that none can stay in"
                " float; raise --max-drop, or choose another engine"
            )
        algorithm, everything = self._package.algorithm_manager.AlgorithmName, self._package.qtyping.TFLOperationName
        quantizer = self._package.quantizer.Quantizer(self._float)
        quantizer.add_static_config(".*", everything.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
        chosen = {operation for name, operation in zip(names, operations, strict=False) if name in in_float}
        for operation in left_in_float(self._float, chosen):
            quantizer.update_quantization_recipe(
                f"^{re.escape(operation)}", everything.ALL_SUPPORTED, algorithm_key=algorithm.NO_QUANTIZE
            )
        if self._ranges is None:
            self._ranges = quantizer.calibrate({SIGNATURE: self._calibrated_on()}, num_threads=checked_threads(None))
        return bytes(quantizer.quantize(self._ranges).quantized_model)

    def _levels(self, model: bytes) -> dict[str, Any]:
        return levels_of(model)

    def _calibrated_on(self) -> list[dict[str, Any]]:
        return [{INPUT: self._seen(index)} for index in self._chosen]

    def _write(self, model: bytes, exported: ExportedCard, path: Path) -> None:
        save(model, exported, path)


def levels_of(content: bytes) -> dict[str, Any]:
    """What a card says of the logits of a model in int8: their type, scale and zero point; nothing of floats."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    logits = graph.tensors[graph.outputs[0]]
    if logits.type != schema.TensorType.INT8:
        return {}
    (scale,), (zero_point,) = logits.quantization.scale, logits.quantization.zeroPoint
    return {"dtype": "uint8", "scale": float(scale), "zero_point": int(zero_point) + OFFSET}


def left_in_float(content: bytes, convolutions: Collection[str]) -> list[str]:
    """Names of what these convolutions give, and of whatever carries it on to the next convolution in int8."""
    left: list[str] = []
    for name, is_convolution, given in operations_of(content):
        if name in convolutions or (not is_convolution and not set(given).isdisjoint(left)):
            left.append(name)
    return left


def operations_of(content: bytes) -> list[tuple[str, bool, list[str]]]:
    """Name of what each operation gives, whether it is a convolution, and the names of what it takes, as they run."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    kinds = {getattr(schema.BuiltinOperator, kind) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")}
    names = [tensor.name.decode() for tensor in graph.tensors]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [
        (
            names[operation.outputs[0]],
            codes[operation.opcodeIndex] in kinds,
            [names[i] for i in operation.inputs if i >= 0],
        )
        for operation in graph.operators
    ]


def ai_edge_quantizer() -> Any:
    """The package. Raises MissingExtra without it."""
    litert()
    try:
        import ai_edge_quantizer as package
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer  # noqa: F401 # loads them
    except ImportError as error:
        raise ENGINES["litert"].missing("ai_edge_quantizer") from error
    return package
