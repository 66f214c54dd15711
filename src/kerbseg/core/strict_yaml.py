"""YAML as people write it, for recipes and data sets; small enough and plain enough for what a stranger wrote."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kerbseg.core.errors import KerbsegError

MAX_BYTES = 2**18  # a thousand times what our recipes have; a parser in Python takes seconds for more
MAX_VALUES = 20_000  # aliases counted as what they stand for: nine lines can stand for a billion values
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
_PLAIN: dict[str, type[yaml.Node]] = {
    **{_TAG + kind: yaml.ScalarNode for kind in ("null", "bool", "int", "float", "str")},
    f"{_TAG}seq": yaml.SequenceNode,
    f"{_TAG}map": yaml.MappingNode,
}


def read_yaml(path: Path, error: type[KerbsegError] = KerbsegError) -> Any:
    """The plain values of a file, as `load_yaml`. Raises `error` too where it cannot be read, or is no UTF-8 text."""
    try:
        if not path.is_file():  # a named pipe would wait for a writer
            raise error(f"{path} is no file; check the path")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}; check it") from problem
    try:
        return load_yaml(content.decode("utf-8"), str(path), error)
    except UnicodeDecodeError as problem:
        raise error(f"{path} is no UTF-8 text ({problem}); save it as UTF-8") from problem


def load_yaml(text: str, where: str, error: type[KerbsegError] = KerbsegError) -> Any:
    """The plain values of a document: null, booleans, numbers, texts, lists and mappings.

    1e-3 is a number, 010 is ten, a date is text, and a key that stands twice is refused. Raises `error`, which names
    `where`, for what is no valid YAML, for other kinds of values, and for more than any recipe or data set needs.
    """
    if len(text) > MAX_BYTES:
        raise error(f"{where} has more than {MAX_BYTES // 1024} KiB, far more than it can need; check the path")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        told = str(problem).replace('in "<unicode string>",', "at")
        raise error(f"{where} is no valid YAML: {told}; correct it") from problem


def dump_yaml(value: Any) -> str:
    """A document that `load_yaml` reads as the same value, and YAML 1.1 does too."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word, 010 as eight, 1:30 as ninety, and keeps the last of two equal keys; this does not.

    Values are counted while the document is read, so that one which would grow beyond all bounds is never built.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._sizes: dict[str, int] = {}  # values that an anchor stands for, once it is complete

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event, before = self.peek_event(), self._values
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _wrong(f"*{event.anchor} stands within itself", event)
            self._count(self._sizes.get(str(event.anchor), 1), event)
            return super().compose_node(parent, index)
        self._count(1, event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _wrong(f"lists and mappings lie more than {MAX_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._values - before
        return node

    def _count(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise _wrong(f"it holds more than {MAX_VALUES} values", event)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _PLAIN or not isinstance(node, _PLAIN[node.tag]):
            raise _wrong(f"{node.tag.removeprefix(_TAG)!r} is no kind of value here", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as problem:  # such as !!int "0x" and !!bool "maybe"
            raise _wrong(f"{node.value!r:.80} is no {node.tag.removeprefix(_TAG)}", node) from problem

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _wrong("a key is a list or mapping", key_node)
            if key in known:
                raise _wrong(f"key {key!r:.80} stands twice", key_node)
            known.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        return int(text, 0 if re.match(r"[-+]?0[box]", text) else 10)


def _wrong(what: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = where.start_mark
    return yaml.MarkedYAMLError(None, None, what, mark)


_OTHERWISE = {"int", "float", "timestamp", "value"}  # what YAML 1.1 takes for one of these, people may mean otherwise
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in patterns if tag.removeprefix(_TAG) not in _OTHERWISE]
    for first, patterns in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}int",
    re.compile(r"^[-+]?([0-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^([-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """Quotes each text that a reader of YAML 1.1, or ours, would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + _Loader.yaml_implicit_resolvers.get(first, [])
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}
