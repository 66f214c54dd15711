"""int8 weights and activations by post-training quantisation (nncf), within a limit of mIoU lost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8

from kerbseg.bundle import Bundle
from kerbseg.core.errors import DataError, MissingExtra
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.core.types import Dataset
from kerbseg.export import onnx, openvino
from kerbseg.metrics import compute_metrics, confusion_metric
from kerbseg.runtime.exported import IDS, PICTURES, SCORES, Exported
from kerbseg.runtime.openvino import keeping_signal_stack

CALIBRATION_PICTURES = 300
COMPUTING = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
ONNX_COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


Ids = UInt8[np.ndarray, "1 h w"]
Infer = Callable[[UInt8[np.ndarray, "1 h w 3"]], Ids]


class Graph(Protocol):
    """What quantisation needs to know of one kind of graph."""

    def converted(self, bundle: Bundle, size: tuple[int, int]) -> tuple[Any, Exported]:
        """The float graph and its cards."""

    def save(self, model: Any, exported: Exported, path: Path) -> None:
        """Writes a graph."""

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        """A picture as nncf feeds it."""

    def opened(self, model: Any) -> Infer:
        """What runs a graph as nncf hands it out for judging."""

    def after_scores(self, model: Any) -> list[str]:
        """Names of the operations of the last stage, which stays in float."""

    def in_float(self, model: Any) -> list[str]:
        """Names of the convolutions and products that are not computed in int8."""


class OpenvinoGraph:
    """An `openvino.Model`."""

    converted = staticmethod(openvino.converted)
    save = staticmethod(openvino.save)

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        return picture

    def opened(self, model: Any) -> Infer:
        return lambda picture: model(picture)[IDS]

    def after_scores(self, model: Any) -> list[str]:
        outputs = [output for operation in model.get_ops() for output in operation.outputs()]
        waiting = [output for output in outputs if SCORES in output.get_names()]
        names: dict[str, None] = {}
        while waiting:
            for reader in waiting.pop().get_target_inputs():
                node = reader.get_node()
                if node.get_type_name() != "Result" and node.get_friendly_name() not in names:
                    names[node.get_friendly_name()] = None
                    waiting += node.outputs()
        return list(names)

    def in_float(self, model: Any) -> list[str]:
        operations = [operation for operation in model.get_ops() if operation.get_type_name() in COMPUTING]
        return [one.get_friendly_name() for one in operations if not self._quantized(one)]

    def _quantized(self, operation: Any) -> bool:
        node = operation.input_value(0).get_node()
        while node.get_type_name() in ("Reshape", "Transpose", "Pad", "Concat", "Slice", "StridedSlice", "MaxPool"):
            node = node.input_value(0).get_node()
        return bool(node.get_type_name() == "FakeQuantize")


class OnnxGraph:
    """An `onnx.ModelProto`; its int8 form has pairs of QuantizeLinear and DequantizeLinear (QDQ)."""

    converted = staticmethod(onnx.converted)
    save = staticmethod(onnx.save)

    def item(self, picture: UInt8[np.ndarray, "1 h w 3"]) -> Any:
        return {PICTURES: picture}

    def opened(self, model: Any) -> Infer:
        import onnxruntime

        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return lambda picture: session.run([IDS], {PICTURES: picture})[0]

    def after_scores(self, model: Any) -> list[str]:
        reached, names = {SCORES}, []
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
            if node.op_type in ONNX_COMPUTING and maker.get(node.input[0]) != "DequantizeLinear"
        ]


GRAPHS: Mapping[str, Graph] = {".xml": OpenvinoGraph(), ".onnx": OnnxGraph()}


@dataclass(frozen=True)
class Quantized:
    """A network in int8, and what stayed in float."""

    model: Any
    exported: Exported
    in_float: Sequence[str]  # convolutions that are not computed in int8
    computing: int  # all of them


class Quantizer:
    """Brings one network to int8, calibrated on pictures of the place where it will work."""

    def __init__(
        self,
        bundle: Bundle,
        suffix: str,
        size: tuple[int, int],
        calibration: Dataset,
        most: int = CALIBRATION_PICTURES,
    ) -> None:
        """Raises MissingExtra without nncf, DataError for a split without pictures."""
        self._nncf = _nncf()
        if not len(calibration):
            raise DataError(f"split {calibration.split!r} of {calibration.name!r} has no pictures to calibrate on")
        self._graph, self._size = GRAPHS[suffix], size
        self._model, self._float = self._graph.converted(bundle, size)
        chosen = np.linspace(0, len(calibration) - 1, min(most, len(calibration))).round().astype(int)
        self.pictures = len(chosen)
        self._pictures = self._nncf.Dataset(chosen.tolist(), lambda i: self._graph.item(_seen(calibration, i, size)))
        self._options = {
            "preset": self._nncf.QuantizationPreset.MIXED,  # what PReLU and the like give is not symmetric
            "target_device": self._nncf.TargetDevice.CPU,
            "subset_size": len(chosen),
            "ignored_scope": self._nncf.IgnoredScope(names=self._graph.after_scores(self._model)),
        }

    def quantize_all(self) -> Quantized:
        """All but the last stage in int8."""
        with keeping_signal_stack():
            return self._quantized(self._nncf.quantize(self._model, self._pictures, **self._options))

    def quantize_within(self, max_drop: float, eval_set: Dataset, limit: int | None) -> Quantized:
        """What loses most is put back into float, until the mIoU on `judged` is at most `max_drop` lower."""
        few = list(range(min(limit or len(eval_set), len(eval_set))))

        def validate(model: Any, indices: Iterable[int]) -> tuple[float, None]:
            return _miou(self._graph.opened(model), eval_set, self._size, indices), None

        with keeping_signal_stack():
            restored = self._nncf.quantize_with_accuracy_control(
                self._model, self._pictures, self._nncf.Dataset(few), validate, max_drop=max_drop, **self._options
            )
        return self._quantized(restored)

    def save(self, quantized: Quantized, path: Path) -> None:
        """Writes the network with its cards."""
        self._graph.save(quantized.model, quantized.exported, path)

    def _quantized(self, model: Any) -> Quantized:
        exported = replace(self._float, last_stage=replace(self._float.last_stage, precision="int8"))
        return Quantized(model, exported, self._graph.in_float(model), len(self._graph.in_float(self._model)))


def _miou(infer: Infer, eval_set: Dataset, size: tuple[int, int], indices: Iterable[int]) -> float:
    """The mIoU on some pictures, at the labels' own size."""
    metric = confusion_metric(len(eval_set.labels))
    for index in indices:
        mask = eval_set[index].mask
        ids = resize_ids(infer(_seen(eval_set, index, size))[0], (mask.shape[0], mask.shape[1]))
        metric.update(torch.from_numpy(ids)[None].long(), torch.from_numpy(mask)[None].long())
    return compute_metrics(metric.compute(), eval_set.labels).miou


def _seen(dataset: Dataset, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "1 h w 3"]:
    return resize_picture(dataset[index].image, size)[None]


def _nncf() -> Any:
    try:
        import nncf
    except ImportError as error:
        raise MissingExtra("nncf", "int8") from error
    nncf.set_log_level(logging.ERROR)
    return nncf
