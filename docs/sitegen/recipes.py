"""The reference of recipes, from the schema that checks them, and the list of those that come with kerbseg."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter

from kerbseg.core.errors import RecipeError
from kerbseg.core.strict_yaml import read_yaml
from kerbseg.train import recipe, recipe_loss, recipe_optim
from kerbseg.train.recipe import AnyRecipe, Classification, Recipe
from kerbseg.train.recipe_file import find, shipped
from kerbseg.train.recipe_header import shipped_recipes
from sitegen.schema import heading, meanings, table

KEYS = """# Recipe keys

A recipe is one YAML file that says what is trained: network, pictures, changes, loss, rate. `kerbseg recipe NAME`
prints one with all its keys. `kerbseg train NAME key=value` changes some, such as `epochs=20 optim.lr=1e-3`. A key that
does not exist is an error that names the nearest one. A key without a default must be given.

"""
SHIPPED = """# Shipped recipes

`kerbseg train NAME` trains one of these; `kerbseg recipes` prints the list. A file of your own works as well:
begin with `kerbseg recipe NAME > mine.yaml`, and see [all keys](recipe.md).

| recipe | network | data | epochs | what it is, and what to expect |
|---|---|---|--:|---|
"""
Schema = Mapping[str, Any]


def keys_page() -> str:
    """Every key of a recipe, section by section; of a classifier's, those that are otherwise."""
    return KEYS + "".join(_document("Segmentation", Recipe)) + "".join(_document("Classification", Classification))


def shipped_page() -> str:
    """The recipes that come with kerbseg, with the figure that each is expected to reach."""
    lines = []
    for entry in shipped_recipes():
        expected = f"<br>{entry.expected}" if entry.expected else ""
        text = f"{entry.summary}{expected}".replace("|", "\\|")
        lines.append(f"| `{entry.name}` | `{entry.network}` | {entry.data} | {entry.epochs} | {text} |\n")
    return SHIPPED + "".join(lines)


def _document(title: str, kind: type[AnyRecipe]) -> Iterator[str]:
    """The keys of a recipe of that kind, and each of its sections once."""
    root: dict[str, Any] = TypeAdapter(kind).json_schema()
    sections = dict(_sections(root, root["$defs"]))
    links = {name: key for key, names in sections.items() for name in names}
    prefix = "" if kind is Recipe else "classification "
    links |= {name: f"{prefix}{key}" for name, key in links.items() if prefix and name in ("Classifier", "ClassData")}
    yield f"## {title}\n\n{inspect.getdoc(kind)}\n\n"
    yield _keys(kind, "", root, kind.__name__, links)
    for key, names in sections.items():
        if prefix and links[names[0]] == key:
            continue  # a section of both kinds
        depth = min(5, 3 + key.count("."))
        yield f"\n{heading(depth, links[names[0]])}\n"
        shared = _shared([root["$defs"][name] for name in names])
        if len(names) > 1:
            yield f"{inspect.getdoc(_class(names[0]).__mro__[1])}\n"
            if shared:
                yield "\n" + _keys(kind, key, {"properties": shared}, names[0], links)
        for name in names:
            schema = root["$defs"][name]
            only: tuple[str, str] | None = None
            own = {each: value for each, value in schema["properties"].items() if each not in shared or len(names) == 1}
            if len(names) > 1:
                [(tag, chosen)] = [(each, value) for each, value in own.items() if "const" in value]
                yield f"\n**`{tag}: {chosen['const']}`** {inspect.getdoc(_class(name))}\n\n"
                del own[tag]
                only = (tag, chosen["const"])
            else:
                yield f"{inspect.getdoc(_class(name))}\n\n"
            if own:
                yield _keys(kind, key, {**schema, "properties": own}, name, links, only)


def _keys(
    kind: type[AnyRecipe],
    section: str,
    schema: Schema,
    name: str,
    links: Mapping[str, str],
    only: tuple[str, str] | None = None,
) -> str:
    """The table of a section's keys; where several may stand there, `only` is the key that tells them apart."""
    which = None if only is None else (f"{section}.{only[0]}", only[1])
    examples = {key: _example(kind, f"{section}.{key}".lstrip("."), which) for key in schema["properties"]}
    return table(schema["properties"], schema.get("required", []), meanings(_class(name)), links, examples)


def _sections(schema: Schema, definitions: Schema, above: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each section within one, by its key, with the names of what may stand there."""
    for key, value in schema.get("properties", {}).items():
        names = list(_references(value))
        if not names:
            continue
        many = "[]" if any(each.get("type") == "array" for each in (value, *value.get("anyOf", ()))) else ""
        many = ".NAME" if "additionalProperties" in value else many
        here = f"{above}{key}{many}"
        yield here, names
        for name in names:
            yield from _sections(definitions[name], definitions, f"{here}.")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for key, each in value.items():
            if key != "default":
                yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _shared(schemas: list[Schema]) -> dict[str, Any]:
    """The keys that all of several sections have, with the same values."""
    first, *others = (schema["properties"] for schema in schemas)
    return {key: value for key, value in first.items() if others and all(each.get(key) == value for each in others)}


def _class(name: str) -> type:
    modules: tuple[ModuleType, ...] = (recipe, recipe_loss, recipe_optim)
    each: type = next(getattr(module, name) for module in modules if hasattr(module, name))
    return each


def _example(kind: type[AnyRecipe], key: str, which: tuple[str, str] | None = None) -> str:
    """A shipped recipe that sets a key, and to what; its section is of the kind `which`, where there are several."""
    for name, settings in _shipped(kind):
        said = dict(settings)
        if which is not None and said.get(which[0], which[1]) != which[1]:
            continue
        for where, value in settings:
            if where == key and len(text := json.dumps(value).strip('"')) < 40:
                return f"`{name}`: `{text}`"
    return ""


@cache
def _shipped(kind: type[AnyRecipe]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """All keys that the shipped recipes of a kind set, those on CamVid first."""
    recipes = {
        name: read_yaml(find(name), RecipeError) for name in sorted(shipped(), key=lambda name: "camvid" not in name)
    }
    return [
        (name, list(_settings(raw))) for name, raw in recipes.items() if ("task" in raw) == (kind is Classification)
    ]


def _settings(raw: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in raw.items() if isinstance(raw, dict) else ():
        here = f"{above}{key}"
        if isinstance(value, dict):
            yield from _settings(value, f"{here}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for each in value:
                yield from _settings(each, f"{here}[].")
        else:
            yield here, value
