"""Writes a bundle as an OpenVINO model: an .xml with the graph and the card, and a .bin with the weights beside it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.bundle import Bundle
from kerbseg.core.files import atomic_write
from kerbseg.export.onnx import converted as as_onnx
from kerbseg.exported_card import IDS, LEVELS, LOGITS, ExportedCard, LastStageCard
from kerbseg.runtime.openvino import RT_INFO, WEIGHTS_KEY, core, digest, openvino, weights_of
from kerbseg.runtime.seal import XML_SEAL

if TYPE_CHECKING:
    import onnx

COMPUTING = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")


def write_openvino(
    bundle: Bundle, path: Path, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> ExportedCard:
    """Writes both files and returns their cards; weights stay float32. Parameters and errors as `write_onnx`."""
    model, exported = converted(bundle, size, logits, batch)
    save(model, exported, path)
    return exported


def converted(
    bundle: Bundle, size: tuple[int, int], logits: bool = False, batch: int | None = None
) -> tuple[Any, ExportedCard]:
    """The network as an `openvino.Model`, and its cards."""
    model, exported = as_onnx(bundle, size, logits, batch)
    return of_onnx(model), exported


def of_onnx(model: onnx.ModelProto) -> Any:
    """The `openvino.Model` of an ONNX graph."""
    return openvino().convert_model(BytesIO(model.SerializeToString()))


def save(model: Any, exported: ExportedCard, path: Path) -> None:
    """Writes `path` (.xml) and its .bin, tied together by the digest of the weights in the card."""
    for key, value in exported.to_metadata().items():
        model.set_rt_info(value, [RT_INFO, key])
    for key, value in exported.for_others().items():
        model.set_rt_info(value, [key])
    with atomic_write(weights_of(path)) as weights, atomic_write(path) as graph:
        serialize = openvino().serialize
        serialize(model, graph, weights)
        model.set_rt_info(digest(weights), [RT_INFO, WEIGHTS_KEY])
        serialize(model, graph, weights)
        XML_SEAL.put_on(Path(graph))


def logits_in(model: Any) -> Any:
    """The output inside a graph that its logits are."""
    outputs = (output for operation in model.get_ops() for output in operation.outputs())
    return next(output for output in outputs if LOGITS in output.get_names())


class OpenvinoGraph:
    """An `openvino.Model` as int8 needs it (`int8.GivesUint8Logits`)."""

    converted = staticmethod(converted)
    save = staticmethod(save)

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        return picture

    def opened(self, model: Any) -> Callable[[UInt8[np.ndarray, "1 h w 3"]], UInt8[np.ndarray, "1 h w"]]:
        return lambda picture: model(picture)[IDS]

    def after_logits(self, model: Any) -> list[str]:
        waiting = [logits_in(model)]
        names: dict[str, None] = {}
        while waiting:
            for reader in waiting.pop().get_target_inputs():
                node = reader.get_node()
                if node.get_type_name() != "Result" and node.get_friendly_name() not in names:
                    names[node.get_friendly_name()] = None
                    waiting += node.outputs()
        return list(names)

    def logits_of(self, model: Any) -> Callable[[UInt8[np.ndarray, "1 h w 3"]], Float32[np.ndarray, "1 k H W"]]:
        ended = openvino().Model([logits_in(model)], model.get_parameters(), LOGITS)
        compiled = core().compile_model(ended, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda picture: compiled(picture)[0]

    def on_levels(self, model: Any, last_stage: LastStageCard) -> Any:
        quantized = model.clone()
        logits = logits_in(quantized)
        readers, names = logits.get_target_inputs(), logits.get_names()
        bounds = [np.float32(bound) for bound in last_stage.bounds]
        levels = openvino().opset13.fake_quantize(logits, *bounds, *bounds, LEVELS).output(0)
        for reader in readers:
            reader.replace_source_output(levels)
        logits.get_tensor().set_names(set())
        levels.get_tensor().set_names(names)
        return quantized

    def in_float(self, model: Any) -> list[str]:
        operations = [operation for operation in model.get_ops() if operation.get_type_name() in COMPUTING]
        return [one.get_friendly_name() for one in operations if not self._quantized(one)]

    def _quantized(self, operation: Any) -> bool:
        node = operation.input_value(0).get_node()
        while node.get_type_name() in ("Reshape", "Transpose", "Pad", "Concat", "Slice", "StridedSlice", "MaxPool"):
            node = node.input_value(0).get_node()
        return bool(node.get_type_name() == "FakeQuantize")
