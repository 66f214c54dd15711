"""Anyone's ONNX file: read, searched, and cut at its small logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from kerbseg.accelerate.onnx_edit import copied, drop_unread, names_in, node_index, of_pixels, put_branch, rename
from kerbseg.accelerate.onnx_file import OLDEST_OPSET, opened
from kerbseg.accelerate.pictures_in import NetworkInput, network_input
from kerbseg.accelerate.tail import Resizing, Size, Step, Tail, factor_of
from kerbseg.core.errors import BundleError
from kerbseg.core.precision import Precision
from kerbseg.core.types import Preprocessing
from kerbseg.exported_card import IDS, LOGITS, PICTURES

if TYPE_CHECKING:
    import onnx

OMITTED_OPSET = 13  # from it on an interpolation may leave out its inputs
OWN = "kerbseg_"  # what names of ours begin with


class OnnxGraph:
    """The graph of a file, with one picture size; nothing of it is changed but by `cut`."""

    def __init__(self, model: onnx.ModelProto, path: Path, size: Size | None, preprocessing: Preprocessing) -> None:
        import onnx

        self.path, self._model = str(path), copied(model)
        graph = self._model.graph
        constants = {each.name for each in graph.initializer}
        inputs = [value for value in graph.input if value.name not in constants]
        if len(inputs) != 1:
            names = ", ".join(value.name for value in inputs) or "nothing"
            raise BundleError(f"{path} takes {names}; a segmentation network takes one picture, and nothing else")
        kind = inputs[0].type.tensor_type
        dims = [dim.dim_value or None for dim in kind.shape.dim]
        dtype = _dtype_name(kind.elem_type)
        self.input: NetworkInput = network_input(inputs[0].name, dtype, dims, size, preprocessing, str(path))
        for dim, n in zip(kind.shape.dim, self.input.shape, strict=True):
            dim.Clear()
            dim.dim_value = n
        for value in graph.output:  # what follows from the input's size is found anew
            value.type.tensor_type.ClearField("shape")
        del graph.value_info[:]
        self._settle()
        inferred = onnx.shape_inference.infer_shapes(self._model, data_prop=True).graph
        self._types = {
            value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output, *inferred.input)
        }
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants = {each.name: each for each in graph.initializer} | {
            node.output[0]: node.attribute[0].t
            for node in graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self._shapes: dict[str, tuple[int, ...]] = {}
        self.outputs: Mapping[str, str] = {value.name: value.name for value in graph.output}

    def tensor(self, name: str) -> str | None:
        return name if name in self._makers or name == self.input.name else None

    def name(self, tensor: str) -> str:
        return tensor

    def maker(self, tensor: str) -> Step[str] | None:
        node = self._makers.get(tensor)
        if node is None or not node.input:
            return None
        step = _step(node, tensor)
        looked_up = step.kind == "Gather" and step.source in self._constants  # a table of ids, say
        if looked_up:
            return replace(step, source=node.input[1])
        return self._scaling(node, step) if step.kind in ("Div", "Mul") else step

    def _scaling(self, node: Any, step: Step[str]) -> Step[str]:
        """A multiplication or division, with its factor where that is one positive number for all."""
        import onnx

        one, other = node.input
        if step.kind == "Mul" and one in self._constants:
            one, other = other, one
        held = self._constants.get(other)
        values = np.empty(0) if held is None else onnx.numpy_helper.to_array(held)
        if values.size != 1:
            return step
        return replace(step, source=one, factor=factor_of(float(values.ravel()[0]), step.kind == "Div"))

    def _settle(self) -> None:
        """Puts the branch in the place of an `If` that no pixel decides (PyTorch's old exporter: a squeeze)."""
        graph, known = self._model.graph, set[str]()
        while node := next((each for each in graph.node if each.op_type == "If" and each.output[0] not in known), None):
            known.add(node.output[0])
            if not of_pixels(graph, node.input[0], self.input.name):
                (taken,) = self.run([node.input[0]], np.zeros(self.input.shape, self.input.dtype))
                put_branch(graph, node, bool(taken.all()))

    def readers(self, tensor: str) -> list[Step[str]]:
        return [
            _step(node, node.output[0]) for node in self._model.graph.node if node.input and node.input[0] == tensor
        ]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Of a tensor; where the graph computes it, it is run once."""
        known = self._types.get(tensor)
        dims = [] if known is None else [dim.dim_value for dim in known.shape.dim]
        if known is not None and known.HasField("shape") and all(dims):
            return tuple(dims)
        if tensor not in self._shapes:
            (value,) = self.run([tensor], np.zeros(self.input.shape, self.input.dtype))
            self._shapes[tensor] = value.shape
        return self._shapes[tensor]

    def resizing(self, step: Step[str]) -> Resizing:
        node = self._makers[step.result]
        attributes = _attributes(node)
        return Resizing(
            attributes.get("mode", b"nearest").decode(),
            attributes.get("coordinate_transformation_mode", b"half_pixel").decode(),
            bool(attributes.get("antialias", 0)),
            self._scales(node, attributes, self.shape(step.source)),
        )

    def _scales(self, node: Any, attributes: Mapping[str, Any], source: Sequence[int]) -> list[float] | None:
        """Of each axis, where an interpolation is given scales; one for all where it keeps the proportions."""
        inputs = [*node.input, "", "", ""][:4]
        if node.op_type != "Resize" or self.opset < OLDEST_OPSET:
            return None
        axes = attributes.get("axes", range(len(source)))
        policy = attributes.get("keep_aspect_ratio_policy", b"stretch").decode()
        if not inputs[3]:
            given = self._held(inputs[2])
        elif policy == "stretch":
            return None
        else:
            ratios = self._held(inputs[3]) / [source[axis] for axis in axes]
            given = np.full(len(ratios), ratios.min() if policy == "not_larger" else ratios.max())
        scales = [1.0] * len(source)
        for axis, scale in zip(axes, given, strict=False):
            scales[axis] = float(scale)
        return scales

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        return next((each.version for each in self._model.opset_import if each.domain in ("", "ai.onnx")), 1)

    @property
    def precision(self) -> Precision:
        """What the network computes in."""
        if any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in self._model.graph.node):
            return "int8"
        return "float16" if self.input.dtype == "float16" else "float32"

    def run(self, tensors: Sequence[str], picture: np.ndarray) -> list[np.ndarray]:
        """What tensors of the whole graph hold, in ONNX Runtime."""
        return opened(self.exposing(tensors), self.path)({self.input.name: picture})

    def exposing(self, tensors: Iterable[str]) -> onnx.ModelProto:
        """The untouched graph, with these tensors as its outputs."""
        import onnx

        model = copied(self._model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(tensors))
        return model

    def run_tail(self, step: Step[str], end: str, values: Float32[np.ndarray, "*axes"]) -> np.ndarray:
        import onnx

        model = self.exposing([end])
        dtype = self._types[step.result].elem_type if step.result in self._types else onnx.TensorProto.FLOAT
        made = node_index(model, step.result)
        del model.graph.node[made]
        model.graph.input.append(onnx.helper.make_tensor_value_info(step.result, dtype, values.shape))
        drop_unread(model)
        feeds = {step.result: values.astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))}
        if any(value.name == self.input.name for value in model.graph.input):
            feeds[self.input.name] = np.zeros(self.input.shape, self.input.dtype)
        (output,) = opened(model, self.path)(feeds)
        return output

    def cut(self, tail: Tail[str]) -> onnx.ModelProto:
        """The graph from uint8 pictures to ids, with the small logits under their name, as ours have it."""
        import onnx

        model = copied(self._model)
        graph = model.graph
        taken = {PICTURES, IDS, LOGITS} | {name for name in names_in(graph) if name.startswith(OWN)}
        changed = {name: f"net_{name}" for name in sorted(taken & names_in(graph))}
        rename(graph, changed)
        source = changed.get(tail.logits, tail.logits)
        kind = self._types[tail.logits].elem_type if tail.logits in self._types else onnx.TensorProto.FLOAT
        behind = []
        if kind != onnx.TensorProto.FLOAT:
            behind.append(onnx.helper.make_node("Cast", [source], [f"{OWN}float"], to=onnx.TensorProto.FLOAT))
        if tail.layout == "nhwc":
            given = behind[0].output[0] if behind else source
            behind.append(onnx.helper.make_node("Transpose", [given], [f"{OWN}nchw"], perm=(0, 3, 1, 2)))
        if behind:
            behind[-1].output[0] = LOGITS
        else:
            rename(graph, {source: LOGITS})
        front = self._front(graph, changed.get(self.input.name, self.input.name))
        nodes = [*front, *graph.node, *behind, *self._last_stage(graph, tail)]
        del graph.node[:], graph.input[:], graph.output[:]
        graph.node.extend(nodes)
        height, width = self.input.size
        graph.input.append(
            onnx.helper.make_tensor_value_info(PICTURES, onnx.TensorProto.UINT8, (self.input.batch, height, width, 3))
        )
        graph.output.append(
            onnx.helper.make_tensor_value_info(IDS, onnx.TensorProto.UINT8, (self.input.batch, height, width))
        )
        drop_unread(model)
        for number, node in enumerate(graph.node):  # nncf knows operations by their names
            node.name = node.name or f"{OWN}{node.op_type}_{number}"
            node.doc_string = ""
        del model.metadata_props[:]
        model.doc_string = graph.doc_string = ""
        return model

    def whole(self, end: str) -> onnx.ModelProto:
        """The graph from uint8 pictures to an output of its own."""
        import onnx

        model = self.exposing([end])
        graph = model.graph
        changed = {PICTURES: f"net_{PICTURES}"}
        rename(graph, changed)
        front = self._front(graph, changed.get(self.input.name, self.input.name))
        nodes = [*front, *graph.node]
        del graph.node[:], graph.input[:]
        graph.node.extend(nodes)
        height, width = self.input.size
        shape = (self.input.batch, height, width, 3)
        graph.input.append(onnx.helper.make_tensor_value_info(PICTURES, onnx.TensorProto.UINT8, shape))
        drop_unread(model)
        return model

    def _front(self, graph: Any, name: str) -> list[Any]:
        """From uint8 [b h w 3] to what the network takes."""
        import onnx

        make, preprocessing = onnx.helper.make_node, self.input.preprocessing
        nodes: list[Any] = []
        ready = PICTURES

        def add(kind: str, *more: str, **attributes: Any) -> None:
            nonlocal ready
            nodes.append(make(kind, [ready, *more], [f"{OWN}in_{len(nodes)}"], **attributes))
            ready = nodes[-1].output[0]

        def constant(label: str, values: np.ndarray) -> str:
            graph.initializer.append(onnx.numpy_helper.from_array(values, f"{OWN}{label}"))
            return f"{OWN}{label}"

        bgr, floats = preprocessing.channels == "bgr", self.input.dtype != "uint8"
        if bgr and not floats:
            add("Gather", constant("bgr", np.array([2, 1, 0])), axis=3)
        if floats:
            add("Cast", to=onnx.TensorProto.FLOAT)
        if floats or self.input.layout == "nchw":
            add("Transpose", perm=(0, 3, 1, 2))  # TensorRT's parser knows no transposition of uint8
        if floats:
            shift, scale, turned, bias = normalizing(preprocessing)
            if bgr:
                add("Conv", constant("turned", turned), constant("bias", bias))
            else:
                if shift.any():
                    add("Add", constant("shift", shift))
                add("Mul", constant("scale", scale))
        if floats and self.input.layout == "nhwc":
            add("Transpose", perm=(0, 2, 3, 1))
        if self.input.dtype == "float16":
            add("Cast", to=onnx.TensorProto.FLOAT16)
        if not nodes:
            add("Identity")
        nodes[-1].output[0] = name
        return nodes

    def _last_stage(self, graph: Any, tail: Tail[str]) -> list[Any]:
        """What the runtimes of ours leave out: for devices and programs that run the file whole."""
        import onnx

        make = onnx.helper.make_node
        factors = [most / own for own, most in zip(tail.small, tail.large, strict=True)]
        sized = [self.input.batch, tail.classes, *tail.large]
        whole = all(factor == int(factor) for factor in factors)
        given = np.array([1, 1, *factors], np.float32) if whole else np.array(sized, np.int64)
        graph.initializer.append(onnx.numpy_helper.from_array(given, f"{OWN}enlarged"))
        rule = "align_corners" if tail.align_corners else tail.coordinates or "half_pixel"
        none = ""
        if self.opset < OMITTED_OPSET:
            none = f"{OWN}none"
            graph.initializer.append(onnx.numpy_helper.from_array(np.empty(0, np.float32), none))
        inputs = [LOGITS, none, f"{OWN}enlarged"] if whole else [LOGITS, none, none, f"{OWN}enlarged"]
        nodes = [
            make("Resize", inputs, [f"{OWN}large"], mode="linear", coordinate_transformation_mode=rule),
            make("ArgMax", [f"{OWN}large"], [f"{OWN}best"], axis=1, keepdims=0),
            make("Cast", [f"{OWN}best"], [IDS], to=onnx.TensorProto.UINT8),
        ]
        if tail.large != self.input.size:
            ends = {"starts": [0, 0], "ends": list(self.input.size), "axes": [1, 2]}
            for key, values in ends.items():
                graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), f"{OWN}{key}"))
            nodes.insert(2, make("Slice", [f"{OWN}best", *(f"{OWN}{key}" for key in ends)], [f"{OWN}cropped"]))
            nodes[3].input[0] = f"{OWN}cropped"
        return nodes

    def costs(self, model: onnx.ModelProto) -> tuple[int, int | None]:
        """Parameters and MACs of a graph's convolutions and linear layers for one picture."""
        import onnx

        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        weights = {each.name: list(each.dims) for each in model.graph.initializer}
        weights |= {name: list(each.dims) for name, each in self._constants.items()}
        weights |= {  # of int8 files
            node.output[0]: weights[node.input[0]]
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in weights
        }
        parameters, macs, whole = 0, 0, True
        for node in model.graph.node:
            held = [weights[name] for name in node.input[1:] if name in weights]
            if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or not held:
                continue
            parameters += sum(math.prod(each) for each in held)
            of = node.input[0] if node.op_type == "ConvTranspose" else node.output[0]
            shape, weight = shapes.get(of, []), held[0]
            if not shape or 0 in shape:
                whole = False
                continue
            if node.op_type in ("Conv", "ConvTranspose"):
                macs += math.prod(weight) * math.prod(shape[2:])
            else:
                rows = math.prod(shape[:-1]) // self.input.batch
                macs += math.prod(weight[-2:]) * rows
        return parameters, macs if whole else None

    def _held(self, name: str) -> np.ndarray:
        """The values of a tensor that depends on no pixels; where it is no constant, the graph is run once."""
        import onnx

        held = self._constants.get(name)
        if held is None:
            return self.run([name], np.zeros(self.input.shape, self.input.dtype))[0]
        return onnx.numpy_helper.to_array(held)


def normalizing(preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What turns pixels of 0..255 into network input: summand and factor, or one convolution where channels turn."""
    mean, std = (np.array(each, np.float64) for each in (preprocessing.mean, preprocessing.std))
    shift, scale = (values.astype(np.float32).reshape(3, 1, 1) for values in (-255 * mean, 1 / (255 * std)))
    turned = np.diag(1 / (255 * std))[:, ::-1, None, None].astype(np.float32)
    return shift, scale, np.ascontiguousarray(turned), (-mean / std).astype(np.float32)


def _step(node: Any, result: str) -> Step[str]:
    kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    if kind == "TopK" and (result != node.output[1] or not _attributes(node).get("largest", 1)):
        kind = "TopK of another kind"
    if kind == "ArgMax" and _attributes(node).get("select_last_index", 0):
        kind = "ArgMax that takes the last of equals"
    return Step(kind, node.name or result, node.input[0], result)


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _dtype_name(kind: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(kind)).lower()
    return "float32" if name == "float" else name
