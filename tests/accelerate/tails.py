"""Small segmentation networks with the last stages that exporters write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, SMALL, CLASSES = (64, 96), (16, 24), 7
Tail = Callable[["Net", str], list[str]]  # adds nodes behind the small logits, and gives the names of the outputs


@dataclass
class Net:
    """A graph in the making."""

    opset: int = 17
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind.lower()}_{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def random(self, *shape: int) -> str:
        values = np.random.default_rng(len(self.constants)).normal(size=shape)
        return self.constant(values / np.sqrt(np.prod(shape[1:])), np.float32)

    def resize(self, source: str, size: Sequence[int] | None = None, scales: Sequence[float] = (), **how: Any) -> str:
        """`size` and `scales` are of all four axes."""
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"} | how
        roi = self.constant([], np.float32) if self.opset < 13 else ""
        if size is None:
            return str(self.add("Resize", source, roi, self.constant(scales, np.float32), **how))
        none = self.constant([], np.float32) if self.opset < 13 else ""
        return str(self.add("Resize", source, roi, none, self.constant(size), **how))

    def squeeze(self, source: str, axis: int) -> str:
        """Axes are an input since opset 13."""
        if self.opset < 13:
            return str(self.add("Squeeze", source, axes=[axis]))
        return str(self.add("Squeeze", source, self.constant([axis])))

    def logits(self, source: str, classes: int = CLASSES, stride: int = 4) -> str:
        """A small network: [1 3 h w] -> [1 k h/4 w/4]."""
        first = self.add(
            "Conv", source, self.random(8, 3, 5, 5), kernel_shape=[5, 5], pads=[2] * 4, strides=[stride] * 2
        )
        second = self.add("Relu", self.add("Conv", self.add("Relu", first), self.random(8, 8, 3, 3), pads=[1] * 4))
        return str(self.add("Conv", second, self.random(classes, 8, 1, 1)))


def network(
    tail: Tail,
    *,
    opset: int = 17,
    shape: Sequence[int | str] = (1, 3, *SIZE),
    dtype: int = TensorProto.FLOAT,
    front: Callable[[Net, str], str] = lambda net, picture: picture,
    classes: int = CLASSES,
    stride: int = 4,
    name: str = "x",
) -> onnx.ModelProto:
    """A whole file."""
    net = Net(opset)
    outputs = tail(net, net.logits(front(net, name), classes, stride))
    kinds = onnx.shape_inference.infer_shapes  # the types of outputs follow from it
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info(name, dtype, shape)],
        [helper.make_empty_tensor_value_info(each) for each in outputs],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = kinds(model)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


def written(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def _large(classes: int = CLASSES, size: Sequence[int] = SIZE) -> list[int]:
    return [1, classes, *size]


def torch_argmax(net: Net, logits: str) -> list[str]:
    """`F.interpolate(x, size).argmax(1)`."""
    return [net.add("ArgMax", net.resize(logits, _large()), axis=1, keepdims=0)]


def torch_sizes(net: Net, logits: str) -> list[str]:
    """PyTorch's old exporter: sizes put together from the input's shape, pytorch_half_pixel."""
    shape = net.add("Shape", "x")
    wanted = net.add("Slice", shape, net.constant([2]), net.constant([4]), net.constant([0]))
    own = net.add("Slice", net.add("Shape", logits), net.constant([0]), net.constant([2]), net.constant([0]))
    sizes = net.add("Concat", own, wanted, axis=0)
    none = net.constant([], np.float32) if net.opset < 13 else ""
    large = net.add(
        "Resize", logits, none, none, sizes, mode="linear", coordinate_transformation_mode="pytorch_half_pixel",
        cubic_coeff_a=-0.75, nearest_mode="floor",
    )  # fmt: skip
    return [net.add("ArgMax", large, axis=1, keepdims=0)]


def torch_scales(net: Net, logits: str) -> list[str]:
    return [net.add("ArgMax", net.resize(logits, scales=[1, 1, 4, 4]), axis=1, keepdims=1)]


def align_corners(net: Net, logits: str) -> list[str]:
    large = net.resize(logits, _large(), coordinate_transformation_mode="align_corners")
    return [net.add("Cast", net.add("ArgMax", large, axis=1, keepdims=0), to=TensorProto.UINT8)]


def paddle(net: Net, logits: str) -> list[str]:
    """paddle2onnx: half_pixel, ArgMax with keepdims, Squeeze, Cast to int32."""
    best = net.add("ArgMax", net.resize(logits, _large()), axis=1, keepdims=1)
    return [net.add("Cast", net.squeeze(best, 1), to=TensorProto.INT32)]


def paddle_asymmetric(net: Net, logits: str) -> list[str]:
    """paddle2onnx, align_mode 1."""
    large = net.resize(logits, _large(), coordinate_transformation_mode="asymmetric")
    return [net.add("ArgMax", net.add("Softmax", large, axis=1), axis=1, keepdims=0)]


def tensorflow(net: Net, logits: str) -> list[str]:
    """tf2onnx: logits are NHWC, turned for the Resize and back, ArgMax over the last axis."""
    nhwc = net.add("Transpose", logits, perm=[0, 2, 3, 1])
    large = net.resize(net.add("Transpose", nhwc, perm=[0, 3, 1, 2]), _large())
    best = net.add("ArgMax", net.add("Transpose", large, perm=[0, 2, 3, 1]), axis=3, keepdims=0)
    return [net.add("Cast", best, to=TensorProto.INT32)]


def tensorflow_nhwc(net: Net, logits: str) -> list[str]:
    """The same with a Resize over the middle axes, and ids with a last axis of one."""
    large = net.resize(net.add("Transpose", logits, perm=[0, 2, 3, 1]), scales=[1, 4, 4, 1])
    return [net.add("ArgMax", large, axis=-1, keepdims=1)]


def ends_in_resize(net: Net, logits: str) -> list[str]:
    return [net.resize(logits, _large())]


def ends_in_softmax(net: Net, logits: str) -> list[str]:
    return [net.add("Softmax", net.resize(logits, _large()), axis=1)]


def softmax_nhwc(net: Net, logits: str) -> list[str]:
    large = net.add("Transpose", net.resize(logits, _large()), perm=[0, 2, 3, 1])
    return [net.add("Softmax", large, axis=-1)]


def sigmoid(net: Net, logits: str) -> list[str]:
    return [net.add("ArgMax", net.add("Sigmoid", net.resize(logits, _large())), axis=1, keepdims=0)]


def log_softmax(net: Net, logits: str) -> list[str]:
    return [net.add("ArgMax", net.add("LogSoftmax", net.resize(logits, _large()), axis=1), axis=1, keepdims=0)]


def softmax_before(net: Net, logits: str) -> list[str]:
    return [net.add("ArgMax", net.resize(net.add("Softmax", logits, axis=1), _large()), axis=1, keepdims=0)]


def top_k(net: Net, logits: str) -> list[str]:
    large = net.resize(logits, _large())
    _, indices = net.add("TopK", large, net.constant([1]), outputs=2, axis=1)
    return [net.add("Cast", net.squeeze(indices, 1), to=TensorProto.FLOAT)]


def cropped(net: Net, logits: str) -> list[str]:
    """Padded to a multiple, cropped at the end: 16x24 logits of 68x100 for pictures of 64x96."""
    large = net.resize(logits, _large(size=(68, 100)))
    ends = [net.constant(each) for each in ([0, 0], list(SIZE), [2, 3])]
    return [net.add("ArgMax", net.add("Slice", large, *ends), axis=1, keepdims=0)]


def twice(net: Net, logits: str) -> list[str]:
    """Enlarged in two steps, then to the size that it has already (mmsegmentation)."""
    half = net.resize(logits, _large(size=(32, 48)))
    large = net.resize(net.resize(half, _large()), _large())
    return [net.add("ArgMax", large, axis=1, keepdims=0)]


def first_of_batch(net: Net, logits: str) -> list[str]:
    """`net(x)[0].argmax(0)`."""
    one = net.add("Gather", net.resize(logits, _large()), net.constant(0), axis=0)
    return [net.add("ArgMax", one, axis=0, keepdims=0)]


GOOD: dict[str, Tail] = {
    tail.__name__: tail
    for tail in (
        torch_argmax, torch_sizes, torch_scales, align_corners, paddle, tensorflow, tensorflow_nhwc, ends_in_resize,
        ends_in_softmax, softmax_nhwc, sigmoid, log_softmax, softmax_before, top_k, cropped, twice, first_of_batch,
        paddle_asymmetric,
    )
}  # fmt: skip
