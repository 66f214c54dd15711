"""Checks shapes and types of arrays where an annotation names them; other annotations are mypy's to check.

jaxtyping's import hook wraps every function of the rooms below with it, so each test also tests the shapes it meets.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any

import jaxtyping
from jaxtyping import AbstractArray, AbstractDtype, install_import_hook

import kerbseg

NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
DATA = Path(kerbseg.__file__).parent / "data"
ROOMS = [
    *(
        f"kerbseg.{room}"
        for room in ("calibrate", "compress", "core", "evaluate", "losses", "metrics", "models", "predict")
    ),
    # but scenes: they are drawn by many small functions, which the checks would make five times slower
    *(f"kerbseg.data.{path.stem}" for path in sorted(DATA.glob("[a-z]*.py"))),
]


def install() -> None:
    """Checks whatever is imported from the rooms after this."""
    jaxtyping.jaxtyped = functools.partial(_where_arrays_are_named, jaxtyping.jaxtyped)
    install_import_hook(ROOMS, "shapes.check")


def _where_arrays_are_named(jaxtyped: Callable[..., Any], **how: Any) -> Callable[[Any], Any]:
    """What the import hook puts on everything: jaxtyping's wrapper, but only where it can find fault.

    It takes a function longer than many of them take, and longer still to be made.
    """
    return lambda made: jaxtyped(**how)(made) if _may_name_arrays(made) else made


def _may_name_arrays(made: Any) -> bool:
    """Whether annotations of a function, or of a class, name a type of arrays, or what is not known yet."""
    known = vars(builtins) | vars(sys.modules[made.__module__])
    owners = made.__mro__ if inspect.isclass(made) else [made]
    hints = [hint for each in owners for hint in inspect.get_annotations(each).values()]
    return any(
        not isinstance(hint, str) or any(name not in known or _is_of_arrays(known[name]) for name in NAME.findall(hint))
        for hint in hints
    )


def _is_of_arrays(value: Any) -> bool:
    kinds = (value, *typing.get_args(value))
    return any(isinstance(each, type) and issubclass(each, AbstractArray | AbstractDtype) for each in kinds)


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which raises TypeError where an array is not of the shape and type that its annotation names."""
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if "ready" not in hints:
            hints.update(_arrays(function), ready=True)
        if len(hints) == 1:
            return function(*args, **kwargs)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if signature.parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL:
                _verify(function, name, value, hints)
        result = function(*args, **kwargs)
        _verify(function, "return", result, hints)
        return result

    return checked


def _verify(function: Callable[..., Any], name: str, value: Any, hints: dict[str, Any]) -> None:
    if name in hints and not isinstance(value, hints[name]):
        raise TypeError(f"{function.__qualname__}: {name}")  # jaxtyping says the rest


def _arrays(function: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    """What can be checked of a function's annotations: arrays, or None beside them."""
    hints = {}
    for name, text in function.__annotations__.items():
        try:
            hint = eval(text, function.__globals__) if isinstance(text, str) else text
        except NameError:  # imported for type checkers alone
            continue
        kinds = (
            typing.get_args(hint) if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union else (hint,)
        )
        if all(isinstance(kind, type) and (issubclass(kind, AbstractArray) or kind is type(None)) for kind in kinds):
            hints[name] = kinds
    return hints
