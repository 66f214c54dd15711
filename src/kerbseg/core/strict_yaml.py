"""YAML as people write it, for recipes and data sets."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kerbseg.core.errors import KerbsegError


def load_yaml(text: str, where: str, error: type[KerbsegError] = KerbsegError) -> Any:
    """The plain values of a document; 1e-3 is a number, and a key that stands twice is refused.

    Raises `error`, which names `where`, for what is no valid YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as problem:
        raise error(f"{where} is no valid YAML: {problem}; correct it") from problem


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as a word and keeps the last of two equal keys; this one does neither."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)$"),
    list("-+0123456789."),
)
