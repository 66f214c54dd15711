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
