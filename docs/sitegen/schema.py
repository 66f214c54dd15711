"""A schema's keys as a table: what a value may be, its default, what it means.

What a value may be, and its default, are those of pydantic's JSON schema; what a key means is the comment beside it.
"""

from __future__ import annotations

import inspect
import io
import json
import re
import tokenize
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

COLUMNS = ("key", "value", "default", "meaning")
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
HUGE = 10**8  # a bound beyond is no help to a reader


@cache
def meanings(of: type) -> dict[str, str]:
    """What each key of a class means: the comment on its line, or the lines of comment before it."""
    known: dict[str, str] = {}
    for base in reversed(of.__mro__):
        if base.__module__.startswith("kerbseg."):
            known |= _commented(inspect.getsource(base))
    return known


def _commented(source: str) -> dict[str, str]:
    comments: dict[int, str] = {}
    names: dict[int, str] = {}  # by the last line of a key
    key = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.partition("# type: ignore")[0].lstrip("# ").strip()
        elif token.type == tokenize.NAME and (match := re.match(rf" {{4}}{token.string}: ", token.line)) is not None:
            key = token.string if token.start[1] == match.start() + 4 else key
        elif token.type == tokenize.NEWLINE and key:
            names[token.start[0]] = key
            key = ""
    lines = source.splitlines()
    known = {}
    for line, name in names.items():
        first = next(i for i in range(line, 0, -1) if lines[i - 1].startswith(f"    {name}: "))
        above = []
        while first > 1 and lines[first - 2].lstrip().startswith("#"):
            first -= 1
            above.insert(0, comments[first])
        beside = comments.get(line, "")
        if text := " ".join([*above, *([beside] if beside else [])]):
            known[name] = text
    return known


def table(
    keys: Mapping[str, Any],
    required: Collection[str],
    words: Mapping[str, str],
    links: Mapping[str, str],
    examples: Mapping[str, str] | None = None,
) -> str:
    """The rows of some keys of a JSON schema; `links` leads from a definition's name to its place on the page."""
    head = COLUMNS if examples is None else (*COLUMNS, "set in")
    lines = [head, ["---"] * len(head)]
    for key, schema in keys.items():
        default = "**required**" if key in required else _default(schema)
        line = [f"`{key}`", value_of(schema, links), default, _cell(words.get(key, ""))]
        lines.append(line if examples is None else [*line, examples.get(key, "")])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default is None or isinstance(default, dict) or default == "":
        return "-"
    return f"`{json.dumps(default)}`" if not isinstance(default, str) else f"`{default}`"


def _cell(text: str) -> str:
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def value_of(schema: Mapping[str, Any], links: Mapping[str, str]) -> str:
    """What may stand there, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{links[name]}](#{anchor(links[name])})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            given = [value_of(each, links) for each in schema[several] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(given))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return _list_of(schema, links)
    if kind == "object":
        inside = schema.get("additionalProperties")
        return f"names, each with {value_of(inside, links)}" if isinstance(inside, dict) else "keys and values"
    return f"{TYPES.get(str(kind), 'any')} {_bounds(schema)}".strip()


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and schema.get("maximum", HUGE) < HUGE:
        return f"{schema['minimum']} to {schema['maximum']}"
    return ", ".join(text.format(schema[key]) for key, text in BOUNDS.items() if key in schema and schema[key] < HUGE)


def _list_of(schema: Mapping[str, Any], links: Mapping[str, str]) -> str:
    if "prefixItems" in schema:
        inside = [value_of(each, links) for each in schema["prefixItems"]]
        return f"{len(inside)} of: {inside[0]}" if len(set(inside)) == 1 else f"\\[{'; '.join(inside)}\\]"
    count = schema.get("minItems")
    exact = f"{count} of" if count == schema.get("maxItems") and count else "list"
    return f"{exact}: {value_of(schema['items'], links)}"


def anchor(key: str) -> str:
    """Where a section of that key stands on its page."""
    return "key-" + re.sub(r"\W+", "-", key).strip("-")


def heading(level: int, key: str) -> str:
    """A heading that `value_of` leads to."""
    return f"{'#' * level} `{key}` {{#{anchor(key)}}}\n"
