"""Recipes as files: the shipped ones by name, overrides, and every slip named in one line; without importing torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from kerbseg.core.errors import KerbsegError, RecipeError, did_you_mean
from kerbseg.core.strict_yaml import load_yaml, read_yaml
from kerbseg.train.recipe import AnyRecipe, Classification, Recipe

TAGS = ("weights", "rule", "loss", "name")  # keys of which one says what kind of section it is


def read(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, or the shipped one of that name, with `key.path=value` overrides.

    Raises RecipeError naming the key, what was found, and the nearest valid one.
    """
    recipe = read_any(source, overrides)
    if isinstance(recipe, Classification):
        raise RecipeError(f"{source} trains a classifier, which segments nothing; choose a recipe of segmentation")
    return recipe


def read_any(source: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """As `read`, and also a recipe that says `task: classification`."""
    path = find(str(source))
    raw = read_yaml(path, RecipeError)
    if not isinstance(raw, dict):
        raise RecipeError(f"{path} holds no mapping of recipe keys; copy a shipped recipe and change it")
    return changed(_apart(raw, str(path)), overrides, str(path))


def changed(raw: Mapping[str, Any], overrides: Sequence[str], where: str) -> AnyRecipe:
    """The recipe of plain values with `key.path=value` overrides. Raises RecipeError, which blames what is wrong."""
    if not overrides:
        return checked(raw, where)
    values = with_overrides(raw, overrides, where)
    try:
        return checked(values, where)
    except RecipeError:
        checked(raw, where)  # a fault of the file is the file's
    return checked(values, _Overrides(overrides))


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of plain values with `key.path=value` overrides. Raises RecipeError for one that is not of that form."""
    values: dict[str, Any] = _apart(dict(raw), where)
    for place, override in enumerate(overrides, 1):
        _override(values, override, f"override {place} {override[:100]!r}")
    return values


def resume_recipe(run: str | Path) -> AnyRecipe:
    """The recipe of a run that was begun. Raises KerbsegError where the folder holds none."""
    path = Path(run) / "recipe.yaml"
    if not path.is_file():
        remedy = "start without --resume"
        if (path.parent / "last.ckpt").exists():
            remedy = f"write there what it was begun with: kerbseg recipe RECIPE [KEY=VALUE ...] > {path}"
        raise KerbsegError(f"nothing to resume: {path} does not exist; {remedy}")
    return read_any(path)


def first_difference(written: AnyRecipe, asked: AnyRecipe) -> str | None:
    """The first key in which two recipes differ, with both values in words; None if they are the same run."""
    before, now = dict(_leaves(written.to_dict())), dict(_leaves(asked.to_dict()))
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key):
            there, here = (json.dumps(values[key]) if key in values else "nothing" for values in (before, now))
            return f"{key} is {there} there and {here} here"
    return None


def shipped() -> list[str]:
    """Names of the recipes that come with kerbseg."""
    root = _shipped_root()
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


def find(source: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped one. Raises RecipeError with the nearest name."""
    try:
        for path in (Path(source), _shipped_root() / f"{source}.yaml"):
            if path.is_file():
                return path
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise RecipeError(f"recipe {source[:100]!r} cannot be read: {error.strerror}; check the path") from error
    raise RecipeError(f"no recipe {source!r}; {did_you_mean(source, shipped())}")


def _shipped_root() -> Path:
    return Path(str(files("kerbseg") / "recipes"))


def _apart(value: Any, where: str) -> Any:
    """The same values, each section of its own: in YAML two keys can stand for one, and an override would change both.

    Raises RecipeError for a key that is no word.
    """
    if isinstance(value, list):
        return [_apart(each, where) for each in value]
    if not isinstance(value, dict):
        return value
    for key in value:
        if not isinstance(key, str):
            raise RecipeError(f"{where}: key {key!r} is no word; write it in quotes")
    return {key: _apart(each, where) for key, each in value.items()}


def _override(raw: dict[str, Any], override: str, where: str) -> None:
    """Sets `key.path=value` in place, in a mapping that belongs to this call alone."""
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"{where} is not key=value; write it like optim.lr=1e-3")
    # a number goes on with the name before it: `heads.seg_heads.1.weight` is of the head `seg_heads.1`
    *parents, last = re.split(r"\.(?!\d+(?:\.|$))", key)
    if not key.isprintable() or "" in (*parents, last):
        raise RecipeError(f"{where} has no key before its =; write it like optim.lr=1e-3")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise RecipeError(f"{where}: {parent!r} is a value, not a section; give it as {parent}={{...}}")
    raw[last] = _apart(load_yaml(value, where, RecipeError), where)


@dataclass(frozen=True)
class _Overrides:
    """What was changed in a recipe that was right before."""

    texts: Sequence[str]

    def setting(self, key: str) -> str:
        """The override that set a key, its section or a part of it, else one beside it; else all of them."""
        keys = [text.partition("=")[0] for text in self.texts]
        for fits in (
            lambda each: f"{key}.".startswith(f"{each}.") or each.startswith(f"{key}."),
            lambda each: each.rpartition(".")[0] == key.rpartition(".")[0],
        ):
            for place in range(len(keys), 0, -1):  # of two that set a key the last one holds
                if fits(keys[place - 1]):
                    return f"override {place} {self.texts[place - 1][:100]!r}"
        return f"overrides {' '.join(self.texts)[:200]!r}"


def checked(raw: Mapping[str, Any], where: str | _Overrides) -> AnyRecipe:
    """The recipe of plain values. Raises RecipeError, which names `where` and the first key that is wrong."""
    kind: type[AnyRecipe] = Classification if "task" in raw else Recipe
    try:
        recipe: AnyRecipe = TypeAdapter(kind).validate_json(json.dumps(raw, ensure_ascii=False).encode(), strict=True)
        return recipe
    except ValidationError as error:
        key, complaint = _explain(error, kind)
        raise RecipeError(f"{where if isinstance(where, str) else where.setting(key)}: {complaint}") from None
    except (TypeError, ValueError) as error:  # what YAML knows and recipes do not, such as half a character
        place = where if isinstance(where, str) else where.setting("")
        raise RecipeError(f"{place}: {error}; recipes hold numbers, words and lists") from error


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key path with its value; a section that is empty is a value too."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explain(error: ValidationError, kind: type) -> tuple[str, str]:
    """The first complaint: its key, and one line of key, what it is, way out."""
    unknown = (
        "unexpected_keyword_argument",
        "extra_forbidden",
    )  # named first: a slip in a name also leaves one missing
    complaints = error.errors()
    first = min(complaints, key=lambda complaint: complaint["type"] not in unknown)
    path, section, chosen = _walk(first["loc"], kind)
    key = ".".join(map(str, path))
    if not key:
        return key, str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] in unknown:
        return key, _explain_unknown(key, section, chosen)
    return key, _explain_value(key, first)


def _explain_value(key: str, complaint: ErrorDetails) -> str:
    kind, given, context = complaint["type"], complaint["input"], complaint.get("ctx", {})
    if kind in ("missing", "missing_argument"):
        return f"key {key!r} is missing; add it"
    if kind == "union_tag_invalid":
        tags = context["expected_tags"].replace("'", "").split(", ")
        name = next(each for each in TAGS if each in given)
        return f"'{key}.{name}' is {_short(given[name])}; {did_you_mean(context['tag'][:100], tags)}"
    if kind in ("union_tag_not_found", "dict_type", "dataclass_type"):
        return f"{key!r} is {_short(given)}; it is a section of keys, such as {key}={{...}}"
    if kind == "literal_error":
        choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{key!r} is {_short(given)}; {did_you_mean(str(given)[:100], choices)}"
    if kind == "value_error":
        says = str(context["error"])
        shown = "" if isinstance(given, dict) or "{" in repr(given) else f" is {_short(given)}"
        return f"{key!r}{shown}: {says}"
    return f"{key!r} is {_short(given)}: {complaint['msg'][0].lower()}{complaint['msg'][1:]}"


def _short(value: Any) -> str:
    """As Python writes it; an error is one line."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _explain_unknown(key: str, section: Any, chosen: Mapping[str, type]) -> str:
    """Says whose a key is if it is that of another choice of its section."""
    above, _, last = key.rpartition(".")
    known = [field.name for field in fields(section)] if is_dataclass(section) else []
    own = next((tag for tag, kind in chosen.items() if kind is section), None)
    others = [tag for tag, kind in chosen.items() if last in {field.name for field in fields(kind)}]
    if own is None or not others:
        return f"unknown key {_short(key)}; {did_you_mean(last[:100], known)}"
    name = next(each for each in TAGS if each in known)
    return (
        f"{key!r} is of {', '.join(others)}, and {above}.{name} is {own}, which does not use it; leave it away, or give"
        f" the whole section, such as {above}={{{name}: {own}}}"
    )


def _walk(location: Sequence[str | int], kind: type) -> tuple[list[str | int], Any, Mapping[str, type]]:
    """Key path of a complaint's location, the section it lies in, and the choices that this section is one of."""
    path: list[str | int] = []
    section: Any = kind
    inside: Any = kind
    choices: Mapping[str, type] = {}
    for part in location:
        tags = _choices(inside)
        if part in tags:  # which of several sections: no key
            inside, choices = tags[str(part)], tags
            section = inside
        elif isinstance(part, int):
            inside = next((each for each in get_args(_section(inside)) if each is not Ellipsis), None)
            path.append(part)
        elif get_origin(current := _section(inside)) is dict:
            inside = get_args(current)[1]
            path.append(part)
        elif is_dataclass(current):
            section = current
            inside = get_type_hints(current, include_extras=True).get(part)
            choices = choices if current in choices.values() else {}
            path.append(part)
    return path, section, choices


def _choices(hint: Any) -> dict[str, type]:
    """The sections by name that an annotation chooses from; none where it is one section or a value."""
    if get_origin(hint) in (UnionType, Union):  # with None
        return {tag: kind for option in get_args(hint) for tag, kind in _choices(option).items()}
    sections = {}
    for option in get_args(get_args(hint)[0]) if get_origin(hint) is Annotated else ():
        for note in getattr(option, "__metadata__", ()):
            if isinstance(note, Tag):
                sections[note.tag] = get_args(option)[0]
    return sections


def _section(hint: Any) -> Any:
    """The annotation without its checks and without None."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (UnionType, Union):
        return _section(next(option for option in get_args(hint) if option is not type(None)))
    return hint
