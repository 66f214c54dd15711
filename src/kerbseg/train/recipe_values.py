"""Values of recipes: what each kind may be, and how one of several sections is chosen."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field

from kerbseg.core.limits import network_pixels


def ordered(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lowest comes first; write [{pair[1]}, {pair[0]}]")
    return pair


def rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(values)):
        raise ValueError("each must be later than the one before it; sort them")
    return values


def some_weight(values: tuple[float, ...]) -> tuple[float, ...]:
    if not any(values):
        raise ValueError("nothing is learned from weights that are all 0; give a class more")
    return values


def no_test(split: str) -> str:
    if split.startswith("test"):
        raise ValueError("the best weights are chosen on it, so it must not be a test split; take val")
    return split


def finite(value: Any) -> Any:
    """The value, in which no number is NaN or infinite. Raises ValueError where one is."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for each in inside:
        finite(each)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("NaN and infinite values are no options")
    return value


def not_the_runs(options: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for options of a builder that a run itself gives."""
    for name, source in (("classes", "the classes of the data"), ("name", "model.name")):
        if name in options:
            raise ValueError(f"{name} follows from {source}; leave it out of the options")
    return options


Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Few = Annotated[int, Field(ge=1, le=10_000)]
Options = Annotated[dict[str, Any], AfterValidator(finite), AfterValidator(not_the_runs)]  # of a builder
Pixels = Annotated[int, Field(ge=1, le=8192)]
Percent = Annotated[int, Field(ge=1, le=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Size = Annotated[tuple[Pixels, Pixels], AfterValidator(network_pixels)]  # height, width in pixels
Factor = Annotated[float, Field(ge=1e-4, le=1e4)]  # beyond it nothing of a picture is left
Degrees = Annotated[float, Field(ge=0, le=180)]
Range = Annotated[tuple[Factor, Factor], AfterValidator(ordered)]  # lowest, highest
ValSplit = Annotated[str, AfterValidator(no_test)]
Place = Literal["picture", "logits"]  # at the picture's size, or where the network ends

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def tag_of(key: str, usual: str) -> Discriminator:
    """Which of several sections is meant: the one that its `key` names, the usual one where it names none."""

    def tag(section: Any) -> str | None:
        if isinstance(section, dict):
            return str(section.get(key, usual))
        return getattr(section, key, None)

    return Discriminator(tag)
