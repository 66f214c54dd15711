"""The description of the service as a page: one file that asks no other server for anything, with a form to try it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import jinja2

from kerbseg.serve.uploads import NAMELESS


def page(description: Mapping[str, Any]) -> str:
    """A page of an OpenAPI description."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kerbseg", "serve"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for operation in _operations(description):
        groups.setdefault(operation["group"], []).append(operation)
    return environment.get_template("page.html.j2").render(
        title=description["info"]["title"], version=description["info"]["version"], groups=groups, field=NAMELESS
    )


def _operations(description: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield {
                "group": next(iter(operation.get("tags", [])), "other"),
                "method": method.upper(),
                "path": path,
                "text": operation.get("description", ""),
                "parameters": [_parameter(each) for each in operation.get("parameters", [])],
                "answers": {status: each["description"] for status, each in operation["responses"].items()},
            }


def _parameter(parameter: Mapping[str, Any]) -> dict[str, str]:
    schema = parameter["schema"]
    kinds = [*schema.get("enum", []), *(each.get("type") for each in schema.get("anyOf", []))]
    kind = " | ".join(each for each in kinds if each != "null") or schema.get("type", "")
    default = schema.get("default")
    default = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    return {"name": parameter["name"], "kind": kind, "default": default, "text": parameter.get("description", "")}
