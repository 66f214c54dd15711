"""A `map.yaml`: classes of theirs to classes of ours, several to one, or to `ignore`.

    car: vehicle
    truck: vehicle
    road: road
    "*": ignore        # all that are not named

Our classes are in the order in which the file first names them. What the format itself calls no class stays so, unless
the file names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.core.labels import BACKGROUND, Color, LabelSet
from kerbseg.core.strict_yaml import read_yaml
from kerbseg.core.types import VOID
from kerbseg.data.dataset_yaml import distinct_colors, is_name
from kerbseg.data.formats.source import SourceClass, shortened

IGNORE = "ignore"
REST = "*"


@dataclass(frozen=True)
class Mapped:
    """Our classes, and the train id (or VOID) of each class of theirs."""

    labels: LabelSet
    train_ids: Mapping[str, int]


def map_classes(theirs: Sequence[SourceClass], name: str, path: Path | None = None) -> Mapped:
    """The label set called `name` that a map makes of their classes; without a map, their classes as they are.

    Raises DataError for a class that is not theirs, one that the map leaves open, and for more than 255 classes.
    """
    if path is None:
        ours = {each.name: None if each.void else each.name for each in theirs}
        order = ours.values()
    else:
        written = _read(path)
        _check_theirs(written, [each.name for each in theirs], path)
        ours = {each.name: _ours(each, written, path) for each in theirs}
        order = written.values()
    classes = [each for each in dict.fromkeys(order) if each is not None and each in ours.values()]
    where = "the source" if path is None else str(path)
    if len(classes) < 2:
        only = f"only class {classes[0]!r}" if classes else "no class"
        raise DataError(f"{where} names {only}; two or more are needed: what is none of them is a class too")
    if bad := [each for each in classes if not is_name(each)]:
        raise DataError(f"{where} calls a class {shortened(bad[0])}, which cannot be shown; give it another name")
    if len(classes) > VOID:
        raise DataError(
            f"{where} has {len(classes)} classes, at most {VOID} fit; join some with a map (--map map.yaml)"
        )
    train_ids = {name: VOID if to is None else classes.index(to) for name, to in ours.items()}
    colors = distinct_colors(_colors(classes, theirs, train_ids))
    labels = LabelSet(
        name,
        tuple(classes),
        tuple(colors),
        {i: i for i in range(len(classes))},
        frozenset({VOID}),
        background=frozenset(each for each in classes if each.casefold() == BACKGROUND),
    )
    return Mapped(labels, train_ids)


def _read(path: Path) -> dict[str, str | None]:
    """Their classes to ours, None for `ignore`."""
    written = read_yaml(path, DataError)
    if not isinstance(written, dict) or not written:
        raise DataError(f"{path} must hold lines such as car: vehicle, one for each class of theirs; write them")
    for key, value in written.items():
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise DataError(f"{path}: {key!r} is no class; put it in quotes")
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{path}: {key} must become a class or {IGNORE}, found {value!r}; put it in quotes")
    return {str(key): None if value == IGNORE else value for key, value in written.items()}


def _ours(each: SourceClass, written: Mapping[str, str | None], path: Path) -> str | None:
    name = each.name
    if name in written:
        return written[name]
    if each.void:
        return None
    if REST in written:
        return written[REST]
    raise DataError(f'{path} says nothing of class {name!r}; add {name}: ignore, or "{REST}": ignore for all others')


def _check_theirs(written: Iterable[str], theirs: Sequence[str], path: Path) -> None:
    for name in written:
        if name not in theirs and name != REST:
            raise DataError(f"{path}: {name!r} is no class of the source; {did_you_mean(name, theirs)}")


def _colors(classes: Sequence[str], theirs: Sequence[SourceClass], train_ids: Mapping[str, int]) -> list[Color | None]:
    """The first color that a class of theirs brings; none where another class has it already."""
    colors: list[Color | None] = []
    for index in range(len(classes)):
        brought = (each.color for each in theirs if train_ids[each.name] == index and each.color is not None)
        color = next(brought, None)
        colors.append(None if color in colors else color)
    return colors
