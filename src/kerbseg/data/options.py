"""A data set's name with options, such as `coco_text:geometry=box,others=background`.

What labels mean decides the result, so it stands in the name: recipes, commands and protocols then say it.
"""

from __future__ import annotations

from collections.abc import Mapping

from kerbseg.core.errors import DataError, did_you_mean
from kerbseg.data import coco_text

SIGN = ":"
"""Between a data set's name and its options."""

OPTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"coco_text": coco_text.OPTIONS}  # data set -> option -> choices
PRESETS: Mapping[str, Mapping[str, Mapping[str, str]]] = {"coco_text": coco_text.PRESETS}  # a word for several options


def base_name(name: str) -> str:
    """The data set's name alone."""
    return name.partition(SIGN)[0]


def options_of(name: str) -> dict[str, str]:
    """The options that stand in a name. Raises DataError for one that the data set does not have."""
    base, sign, text = name.partition(SIGN)
    if not sign:
        return {}
    known, presets = OPTIONS.get(base, {}), PRESETS.get(base, {})
    if not known:
        raise DataError(f"data set {base!r} has no options, found {text!r}; write {base!r} alone")
    given: dict[str, str] = {}
    for part in text.split(","):
        key, is_pair, value = part.strip().partition("=")
        if key not in (known if is_pair else presets):
            choices = [*presets, *(f"{each}={'|'.join(values)}" for each, values in known.items())]
            raise DataError(f"data set {base!r} has no option {part!r}; choose from: {', '.join(choices)}")
        if is_pair and value not in known[key]:
            raise DataError(f"option {key!r} of data set {base!r} is {value!r}; {did_you_mean(value, known[key])}")
        chosen = {key: value} if is_pair else presets[key]
        if twice := given.keys() & chosen.keys():
            raise DataError(f"data set {name!r} says {min(twice)!r} twice; say it once")
        given |= chosen
    return given
