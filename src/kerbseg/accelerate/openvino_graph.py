"""Anyone's OpenVINO model: read, searched, and cut at its small logits."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from kerbseg.accelerate.onnx_graph import normalizing
from kerbseg.accelerate.pictures_in import NetworkInput, network_input
from kerbseg.accelerate.tail import Resizing, Size, Step, Tail, factor_of
from kerbseg.core.errors import BundleError
from kerbseg.core.precision import Precision
from kerbseg.core.types import Preprocessing
from kerbseg.export.openvino import of_onnx as converted
from kerbseg.exported_card import IDS, LOGITS, PICTURES
from kerbseg.runtime.openvino import RT_INFO, core, openvino, weights_of

KINDS = {  # in ONNX's words
    "Convert": "Cast",
    "Divide": "Div",
    "Interpolate": "Resize",
    "Multiply": "Mul",
    "SoftMax": "Softmax",
    "StridedSlice": "Slice",
}
DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8"}
LINEAR = ("linear", "linear_onnx", "bilinear_pillow")
NUMPY = {"f32": np.float32, "f16": np.float16}
WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")


class OpenvinoGraph:
    """The graph of a file, with one picture size; nothing of it is changed but by `cut`."""

    def __init__(self, model: Any, path: Path, size: Size | None, preprocessing: Preprocessing) -> None:
        self.path, self._model = str(path), model.clone()
        inputs = self._model.inputs
        if len(inputs) != 1:
            names = ", ".join(_label(each) for each in inputs) or "nothing"
            raise BundleError(f"{path} takes {names}; a segmentation network takes one picture, and nothing else")
        own = inputs[0].get_partial_shape()
        dims = [dim.get_length() if dim.is_static else None for dim in own] if own.rank.is_static else []
        kind = inputs[0].get_element_type().get_type_name()
        self.input: NetworkInput = network_input(
            _label(inputs[0]), DTYPES.get(kind, kind), dims, size, preprocessing, str(path)
        )
        try:
            self._model.reshape(list(self.input.shape))
        except RuntimeError as error:
            raise BundleError(f"{path} takes no pictures of {self.input.size}: {_brief(error)}") from error
        self.outputs: Mapping[str, Any] = {_label(each): each.get_node().input_value(0) for each in self._model.outputs}

    def tensor(self, name: str) -> Any | None:
        if name in self.outputs:
            return self.outputs[name]
        every = (output for node in self._model.get_ops() for output in node.outputs())
        return next((each for each in every if name in each.get_names()), None)

    def name(self, tensor: Any) -> str:
        return _label(tensor)

    def maker(self, tensor: Any) -> Step[Any] | None:
        node = tensor.get_node()
        if node.get_type_name() in ("Parameter", "Constant", "ReadValue"):
            return None
        return _step(node, tensor)

    def readers(self, tensor: Any) -> list[Step[Any]]:
        inputs = [each for each in tensor.get_target_inputs() if each.get_index() == 0]
        return [_step(each.get_node(), each.get_node().output(0)) for each in inputs if each.get_node().outputs()]

    def shape(self, tensor: Any) -> tuple[int, ...]:
        shape = tensor.get_partial_shape()
        if not shape.is_static:
            raise BundleError(
                f"{self.path}: {_label(tensor)!r} has a size that the graph computes ({shape}); export it for one size"
            )
        return tuple(shape.to_shape())

    def resizing(self, step: Step[Any]) -> Resizing:
        node = step.result.get_node()
        has = node.get_attributes()
        if any(has.get("pads_begin", ())) or any(has.get("pads_end", ())):
            raise BundleError(f"{self.path}: its last interpolation, {step.name!r}, pads the logits; export it without")
        if "coordinate_transformation_mode" not in has:  # the first version of the operation
            corners = "align_corners" if has.get("align_corners") else "asymmetric"
            return Resizing("linear" if has["mode"] in LINEAR else has["mode"], corners, bool(has["antialias"]), None)
        mode = "linear" if has["mode"] in LINEAR else has["mode"]
        return Resizing(mode, has["coordinate_transformation_mode"], bool(has["antialias"]), self._scales(node, has))

    def _scales(self, node: Any, has: Mapping[str, Any]) -> list[float] | None:
        """Of each of the four axes, where the operation is given scales."""
        if has["shape_calculation_mode"] != "scales":
            return None
        # the fourth version has sizes before scales, the eleventh one of both
        given = [node.input_value(index).get_node() for index in range(1, node.get_input_size())]
        constants = [each.get_data().ravel() for each in given if each.get_type_name() == "Constant"]
        floats = [each for each in constants if each.dtype.kind == "f"]
        axes = next((each for each in constants[1:] if each is constants[-1] and each.dtype.kind in "iu"), None)
        if not floats:
            return None
        scales = [1.0, 1.0, 1.0, 1.0]
        for axis, scale in zip(range(4) if axes is None else axes, floats[0], strict=False):
            scales[int(axis)] = float(scale)
        return scales

    @property
    def precision(self) -> Precision:
        """What the network computes in; float16 is how weights are stored, and is computed in float32 here."""
        return "int8" if any(node.get_type_name() == "FakeQuantize" for node in self._model.get_ops()) else "float32"

    def run_tail(self, step: Step[Any], end: Any, values: Float32[np.ndarray, "*axes"]) -> np.ndarray:
        ov = openvino()
        model = self._exposing(lambda graph: [graph.same(end), graph.same(step.result)])
        last, large = model.outputs
        kind = large.get_element_type()
        fed = ov.opset13.parameter(list(values.shape), kind)
        large = large.get_node().input_value(0)
        last = last.get_node().input_value(0)
        readers = [each for each in large.get_target_inputs() if each.get_node().get_type_name() != "Result"]
        for each in readers:
            each.replace_source_output(fed.output(0))
        tail = ov.Model([last if readers else fed.output(0)], [fed, *model.get_parameters()], "tail")
        feeds = [values.astype(NUMPY[kind.get_type_name()]), np.zeros(self.input.shape, self.input.dtype)]
        return _compiled(tail, self.path)(feeds)[0]

    def reference(self, tensors: Sequence[Any]) -> Any:
        """The untouched graph, with these tensors as its outputs."""
        return self._exposing(lambda graph: [graph.same(each) for each in tensors])

    def same(self, tensor: Any) -> Any:
        """The tensor of a copy that is this one of the graph that it was copied from."""
        name = tensor.get_node().get_friendly_name()
        node = next(each for each in self._model.get_ops() if each.get_friendly_name() == name)
        return node.output(tensor.get_index())

    def _exposing(self, chosen: Callable[[OpenvinoGraph], list[Any]]) -> Any:
        copy = object.__new__(OpenvinoGraph)
        copy._model = self._model.clone()
        return openvino().Model(chosen(copy), copy._model.get_parameters(), "exposed")

    def cut(self, tail: Tail[Any]) -> Any:
        """The graph from uint8 pictures to ids, with the small logits under their name, as ours have it."""
        ov, o = openvino(), openvino().opset13
        logits, pictures = self._from_pictures(tail.logits)
        if logits.get_element_type() != ov.Type.f32:
            logits = o.convert(logits, "f32").output(0)
        if tail.layout == "nhwc":
            logits = o.transpose(logits, np.array([0, 3, 1, 2])).output(0)
        logits.get_tensor().add_names({LOGITS})
        ids = self._last_stage(logits, tail)
        ids.get_tensor().set_names({IDS})
        return ov.Model([ids], [pictures], "accelerated")

    def whole(self, end: Any) -> Any:
        """The graph from uint8 pictures to an output of its own."""
        output, pictures = self._from_pictures(end)
        return openvino().Model([output], [pictures], "whole")

    def _from_pictures(self, tensor: Any) -> tuple[Any, Any]:
        """A tensor of a copy of the graph that takes uint8 pictures, and their parameter."""
        ov, o = openvino(), openvino().opset13
        model = self._exposing(lambda graph: [graph.same(tensor)])
        for node in model.get_ops():
            for output in node.outputs():
                names = output.get_names() - {PICTURES, LOGITS, IDS}
                output.get_tensor().set_names(names)
        output = model.output(0).get_node().input_value(0)
        (before,) = model.get_parameters()
        height, width = self.input.size
        pictures = o.parameter([self.input.batch, height, width, 3], ov.Type.u8, name=PICTURES)
        pictures.output(0).get_tensor().set_names({PICTURES})
        front = self._front(pictures)
        for reader in before.output(0).get_target_inputs():
            reader.replace_source_output(front)
        return output, pictures

    def _front(self, pictures: Any) -> Any:
        """From uint8 [b h w 3] to what the network takes."""
        o, preprocessing = openvino().opset13, self.input.preprocessing
        ready = pictures.output(0)
        bgr, floats = preprocessing.channels == "bgr", self.input.dtype != "uint8"
        if bgr and not floats:
            ready = o.gather(ready, np.array([2, 1, 0]), np.array(3)).output(0)
        if floats:
            ready = o.convert(ready, "f32").output(0)
        if floats or self.input.layout == "nchw":
            ready = o.transpose(ready, np.array([0, 3, 1, 2])).output(0)
        if floats:
            shift, scale, turned, bias = normalizing(preprocessing)
            if bgr:
                ready = o.convolution(ready, turned, [1, 1], [0, 0], [0, 0], [1, 1]).output(0)
                ready = o.add(ready, bias.reshape(1, 3, 1, 1)).output(0)
            else:
                if shift.any():
                    ready = o.add(ready, shift[None]).output(0)
                ready = o.multiply(ready, scale[None]).output(0)
        if floats and self.input.layout == "nhwc":
            ready = o.transpose(ready, np.array([0, 2, 3, 1])).output(0)
        if self.input.dtype == "float16":
            ready = o.convert(ready, "f16").output(0)
        return ready

    def _last_stage(self, logits: Any, tail: Tail[Any]) -> Any:
        """What the runtimes of ours leave out: for programs that run the file whole."""
        ov, o = openvino(), openvino().opset13
        rule = "align_corners" if tail.align_corners else tail.coordinates or "half_pixel"
        large = ov.opset11.interpolate(
            logits,
            np.array(tail.large, np.int64),
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode=rule,
            axes=np.array([2, 3], np.int64),
        )
        best = ov.opset11.topk(large, np.array(1, np.int64), 1, "max", "value", index_element_type="i32", stable=True)
        ids = o.squeeze(best.output(1), np.array([1], np.int64))
        if tail.large != self.input.size:
            ends = np.array(self.input.size, np.int64)
            ids = o.slice(ids, np.array([0, 0]), ends, np.array([1, 1]), np.array([1, 2]))
        return o.convert(ids, "u8").output(0)

    def costs(self, model: Any) -> tuple[int, int | None]:
        """Parameters and MACs of a graph's convolutions and linear layers for one picture."""
        parameters = macs = 0
        for node in model.get_ops():
            kind = node.get_type_name()
            if kind not in WEIGHTED or (weight := _weight(node.input_value(1))) is None:
                continue
            parameters += math.prod(weight)
            shape = (node.input_value(0) if "Backprop" in kind else node.output(0)).get_shape()
            if kind == "MatMul":
                macs += math.prod(weight[-2:]) * math.prod(shape[:-1]) // self.input.batch
            else:
                macs += math.prod(weight) * math.prod(shape[2:])
        return parameters, macs


def read_openvino(path: Path) -> Any:
    """A model that is whole and of others. Raises BundleError."""
    if not weights_of(path).is_file():
        raise BundleError(f"{weights_of(path)} is missing: an OpenVINO model is an .xml and a .bin side by side")
    try:
        model = core().read_model(path)
    except RuntimeError as error:
        raise BundleError(f"{path} is no whole OpenVINO model ({_brief(error)}); export it again") from error
    if model.has_rt_info(RT_INFO):
        raise BundleError(f"{path} is a file of kerbseg already, with its fast last stage; use it as it is")
    return model


def _compiled(model: Any, path: str) -> Any:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    try:
        return core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BundleError(f"openvino cannot compile {path} ({_brief(error)}); export it again") from error


def of_onnx(model: Any, path: str) -> Any:
    """The `openvino.Model` of an ONNX graph of others. Raises BundleError for an operation that OpenVINO lacks."""
    frontend = importlib.import_module("openvino.frontend")  # its errors have no kind in common
    names = ("GeneralFailure", "NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")
    kinds = (RuntimeError, *(getattr(frontend, name) for name in names))
    try:
        return converted(model)
    except kinds as error:
        told = [line for line in str(error).splitlines() if line.startswith("-- Conversion is failed for: ")]
        lacks = f"it lacks one of {told[0].partition(': ')[2]}" if told else _brief(error)
        raise BundleError(f"openvino cannot read {path} ({lacks}); name an .onnx file to write") from error


def opened(model: Any, path: str) -> Callable[[np.ndarray], list[np.ndarray]]:
    """What runs a graph in OpenVINO, in float32. Raises BundleError where it does not."""
    compiled = _compiled(model, path)

    def run(picture: np.ndarray) -> list[np.ndarray]:
        results = compiled([picture])
        return [np.array(results[index]) for index in range(len(compiled.outputs))]

    return run


def _weight(output: Any) -> list[int] | None:
    """The shape of a constant, also behind what brings it to float."""
    node = output.get_node()
    while node.get_type_name() in ("Convert", "FakeQuantize", "Multiply", "Reshape", "Subtract", "Transpose"):
        node = node.input_value(0).get_node()
    return list(output.get_shape()) if node.get_type_name() == "Constant" else None


def _step(node: Any, result: Any) -> Step[Any]:
    kind = KINDS.get(node.get_type_name(), node.get_type_name())
    if kind == "TopK" and (result.get_index() != 1 or node.get_attributes()["mode"] != "max"):
        kind = "TopK of another kind"
    source, factor = node.input_value(0), None
    if kind in ("Div", "Mul"):
        other = node.input_value(1)
        if kind == "Mul" and _number(other) is None:
            source, other = other, source
        if (number := _number(other)) is not None:
            factor = factor_of(number, kind == "Div")
        else:
            source = node.input_value(0)
    return Step(kind, node.get_friendly_name(), source, result, factor)


def _number(output: Any) -> float | None:
    """The value of a constant of one element."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or math.prod(output.get_shape()) != 1:
        return None
    return float(node.get_data().ravel()[0])


def _label(tensor: Any) -> str:
    names = tensor.get_names()
    return min(names) if names else str(tensor.get_node().get_friendly_name())


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"
