"""Small changes of an ONNX graph: copies, names, and what nobody reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def names_in(graph: Any) -> set[str]:
    names = {each.name for each in (*graph.initializer, *graph.input, *graph.output)}
    for node in graph.node:
        names |= {*node.input, *node.output}
        for inner in subgraphs(node):
            names |= names_in(inner)
    return names


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Gives tensors other names, wherever they stand."""
    for each in (*graph.initializer, *graph.input, *graph.output):
        each.name = names.get(each.name, each.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in subgraphs(node):
            rename(inner, names)


def node_index(model: Any, result: str) -> int:
    return next(index for index, node in enumerate(model.graph.node) if result in node.output)


def of_pixels(graph: Any, name: str, picture: str) -> bool:
    """Whether a tensor depends on the values of the picture, and not on its size alone."""
    makers = {each: node for node in graph.node for each in node.output}
    asked, seen = [name], set()
    while asked:
        if (one := asked.pop()) == picture:
            return True
        node = makers.get(one)
        if one in seen or node is None or node.op_type in ("Shape", "Size"):
            continue
        seen.add(one)
        asked += [*node.input, *(each for inner in subgraphs(node) for each in names_in(inner))]
    return False


def put_branch(graph: Any, node: Any, taken: bool) -> None:
    """Puts one of the two branches of an `If` in its place."""
    import onnx

    wanted = "then_branch" if taken else "else_branch"
    branch = next(each.g for each in node.attribute if each.name == wanted)
    own = {name for inner in branch.node for name in inner.output} | {each.name for each in branch.initializer}
    rename(branch, {name: f"{node.output[0]}_{wanted}_{name}" for name in own if name})
    given = zip(branch.output, node.output, strict=True)
    ends = [onnx.helper.make_node("Identity", [value.name], [name]) for value, name in given]
    place = list(graph.node).index(node)
    nodes = [*list(graph.node)[:place], *branch.node, *ends, *list(graph.node)[place + 1 :]]
    graph.initializer.extend(branch.initializer)
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unread(model: Any) -> None:
    """Removes what no output needs."""
    graph = model.graph
    needed, nodes = {value.name for value in graph.output}, []
    for node in reversed(graph.node):  # in topological order
        if needed & {*node.output}:
            needed |= {*node.input}
            for inner in subgraphs(node):
                needed |= names_in(inner)
            nodes.append(node)
    kept = [value for value in graph.input if value.name in needed]
    held = [each for each in graph.initializer if each.name in needed]
    nodes.reverse()
    del graph.node[:], graph.input[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.input.extend(kept)
    graph.initializer.extend(held)
