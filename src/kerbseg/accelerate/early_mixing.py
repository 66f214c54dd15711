"""A pointwise convolution over enlarged features, done before they are enlarged: the same sums in another order.

Heads that gather features of several sizes (SegFormer, Xie et al. 2021, section 3.2; feature pyramids) enlarge all of
them to the largest, and mix their concatenation by a pointwise convolution there. Both are linear, and one works on
channels, the other on pixels, so that they may change places: each part is mixed at its own size, enlarged, and summed
up. Where a part comes of a linear layer itself, its weights take up the mixing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

OWN = "kerbseg_mixed"


def mix_early(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a graph with its pointwise convolutions before interpolations; the same graph where there are none."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = _Graph(copy)
    for node in list(copy.graph.node):
        if node.op_type == "Conv" and (joined := graph.joined(node)) is not None:
            graph.mix(node, joined)
    graph.remove_unread()
    return copy


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        self.graph = model.graph
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred.value_info
        }
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.constants = {each.name: onnx.numpy_helper.to_array(each) for each in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
            elif node.op_type == "Identity" and node.input[0] in self.constants:  # equal weights, written once
                self.constants[node.output[0]] = self.constants[node.input[0]]
        self.read: dict[str, int] = {value.name: 1 for value in self.graph.output}
        for node in self.graph.node:
            for name in node.input if node.op_type != "Shape" else ():  # which no mixing changes
                self.read[name] = self.read.get(name, 0) + 1

    def joined(self, conv: Any) -> Any | None:
        """The concatenation that a pointwise convolution alone reads, if a part of it is enlarged by interpolation."""
        weight, node = self.constants.get(conv.input[1]), self.makers.get(conv.input[0])
        if weight is None or weight.ndim != 4 or weight.shape[2:] != (1, 1) or weight.dtype != np.float32:
            return None
        has = {each.name: each for each in conv.attribute}
        plain = all(set(has[key].ints) <= {value} for key, value in (("pads", 0), ("strides", 1)) if key in has)
        if not plain or ("group" in has and has["group"].i != 1):
            return None
        if node is None or node.op_type != "Concat" or node.attribute[0].i != 1 or self.read[node.output[0]] != 1:
            return None
        if any(len(self.shapes.get(part, ())) != 4 or not all(self.shapes[part]) for part in node.input):
            return None
        return node if any(self._enlarged(part) is not None for part in node.input) else None

    def _enlarged(self, part: str) -> Any | None:
        """The interpolation that makes a part larger, if nothing else reads that."""
        made = self.makers.get(part)
        if made is None or made.op_type != "Resize" or self.read[part] != 1:
            return None
        mode = next((each.s for each in made.attribute if each.name == "mode"), b"nearest")
        before, after = self.shapes.get(made.input[0], []), self.shapes[part]
        larger = len(before) == 4 and before[:2] == after[:2] and before[2] <= after[2] and before[3] <= after[3]
        return made if mode == b"linear" and larger and len(made.input) == 4 and before != after else None

    def _as_large(self, part: str) -> str:
        """A part before an interpolation to the size that it has already."""
        made = self.makers.get(part)
        same = made is not None and made.op_type == "Resize" and self.shapes.get(made.input[0]) == self.shapes[part]
        return str(made.input[0]) if same and made is not None and self.read[part] == 1 else part

    def mix(self, conv: Any, joined: Any) -> None:
        """Puts the parts of a convolution where the parts of its input are."""
        import onnx

        weight, first, sums = self.constants[conv.input[1]], 0, []
        place = list(self.graph.node).index(joined)
        nodes: list[Any] = []
        for part in joined.input:
            channels = self.shapes[part][1]
            own = np.ascontiguousarray(weight[:, first : first + channels])
            first += channels
            enlarged = self._enlarged(part)
            mixed = self._mixed(self._as_large(part) if enlarged is None else enlarged.input[0], own, nodes)
            if enlarged is not None:
                shape = self.shapes[part]
                sizes = self._constant(np.array([shape[0], len(own), *shape[2:]], np.int64))
                larger = onnx.NodeProto()
                larger.CopyFrom(enlarged)
                larger.name = f"{OWN}_resize_{len(self.constants)}"
                larger.input[0], larger.input[3], larger.output[0] = mixed, sizes, larger.name
                nodes.append(larger)
                mixed = larger.output[0]
            sums.append(mixed)
        if len(conv.input) == 3:
            sums.append(self._constant(self.constants[conv.input[2]].reshape(1, -1, 1, 1)))
        while len(sums) > 1:
            name = conv.output[0] if len(sums) == 2 else f"{OWN}_sum_{len(self.constants)}_{len(sums)}"
            nodes.append(onnx.helper.make_node("Add", sums[:2], [name], name=f"{OWN}_add_{name}"))
            sums = [name, *sums[2:]]
        conv.output[0] = f"{OWN}_unread_{conv.output[0]}"
        for offset, node in enumerate(nodes):
            self.graph.node.insert(place + 1 + offset, node)

    def _mixed(self, part: str, weight: np.ndarray, nodes: list[Any]) -> str:
        """A part after its share of the convolution: in the linear layer that it comes of, or in one of its own."""
        import onnx

        if self._in_linear(part, weight):
            return part
        name = f"{OWN}_conv_{len(self.constants)}"
        nodes.append(onnx.helper.make_node("Conv", [part, self._constant(weight)], [name], name=name))
        return name

    def _in_linear(self, part: str, weight: np.ndarray) -> bool:
        """Whether the share went into a linear layer (MatMul, Add, Transpose, Reshape) of as many channels."""
        chain, name = [], part
        for kind in ("Reshape", "Transpose", "Add", "MatMul"):
            node = self.makers.get(name)
            if node is None or node.op_type != kind or self.read[name] != 1:
                return False
            chain.append(node)
            name = next((each for each in node.input if each not in self.constants), "")
        reshape, transpose, add, product = chain
        bias = next((each for each in add.input if each in self.constants), "")
        held = self.constants.get(product.input[1])
        outputs, channels = weight.shape[:2]
        turned = self.shapes.get(transpose.output[0], [])
        fits = (
            held is not None
            and bias
            and outputs == channels
            and held.ndim == 2
            and held.shape[1] == channels == self.constants[bias].size
            and list(transpose.attribute[0].ints) == [0, 2, 1]
            and len(turned) == 3
            and turned[1] == self.shapes[reshape.output[0]][1] == channels
        )
        if not fits or held is None:
            return False
        mixing = weight[:, :, 0, 0].T
        product.input[1] = self._constant(held @ mixing)
        add.input[list(add.input).index(bias)] = self._constant(self.constants[bias].reshape(-1) @ mixing)
        return True

    def _constant(self, values: np.ndarray) -> str:
        import onnx

        name = f"{OWN}_{len(self.constants)}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        self.constants[name] = values
        return name

    def remove_unread(self) -> None:
        """Removes what nothing needs any more."""
        needed, nodes = {value.name for value in self.graph.output}, []
        for node in reversed(self.graph.node):
            if needed & {*node.output}:
                needed |= {*node.input}
                nodes.append(node)
        held = [each for each in self.graph.initializer if each.name in needed]
        nodes.reverse()
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(held)
