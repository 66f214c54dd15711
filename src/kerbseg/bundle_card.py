"""The card of a bundle: what stands beside weights in a file, and is needed to use them. Read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.limits import MOST_OUTPUTS, network_pixels
from kerbseg.core.resize import Resample
from kerbseg.core.types import Preprocessing

FORMAT = 1
METADATA_KEY = "kerbseg"  # of the safetensors header, and of exported models
DIGEST_KEY = "digest"  # of a card in a file; not a metadata entry beside it, since safetensors keeps no order of those
TEMPERATURES = (0.01, 100.0)  # the least and the greatest that a card may hold
LONGEST_CARD, DEEPEST_CARD = 2**20, 20  # characters; levels of lists and mappings


@dataclass(frozen=True)
class BundleCard:
    """All that is needed to use a set of weights, and where they came from."""

    model: str  # a registered name
    labels: LabelSet
    preprocessing: Preprocessing
    input_size: tuple[int, int]  # height, width it was trained for
    outputs: int  # channels of the logits; those beyond the classes (an authors' void) never win
    options: Mapping[str, Any] = field(default_factory=dict)  # of the model's builder
    recipe: Mapping[str, Any] = field(default_factory=dict)  # resolved; empty for imported weights
    scores: Mapping[str, Any] = field(default_factory=dict)  # figures with their protocol
    source: str = ""  # how the weights came to be, in words
    versions: Mapping[str, str] = field(default_factory=dict)
    resample: Resample = "bilinear"  # how pictures of another size come to that of the network

    def __post_init__(self) -> None:
        if not len(self.labels) <= self.outputs <= MOST_OUTPUTS:
            raise KerbsegError(f"{self.outputs} outputs for {len(self.labels)} classes")
        try:
            network_pixels(self.input_size)
        except ValueError as error:
            raise KerbsegError(f"input size {error}") from error
        temperature: Any = self.temperature  # which may be whatever stands in a file
        number = type(temperature) in (int, float)
        if temperature is not None and not (number and TEMPERATURES[0] <= temperature <= TEMPERATURES[1]):
            raise KerbsegError(f"temperature {temperature!r} is none; a number from 0.01 to 100 is")

    @property
    def temperature(self) -> float | None:
        """What logits are divided by, for probabilities that can be believed; None before `kerbseg calibrate`.

        It stands among the scores, with its protocol, so that a kerbseg which knows no temperature reads the card too.
        """
        calibration = self.scores.get("calibration")
        return calibration.get("temperature") if isinstance(calibration, Mapping) else None

    def to_json(self) -> str:
        """The card as it stands in a file's metadata. Raises BundleError for what JSON does not have, such as NaN."""
        card = asdict(self)
        card["labels"] = labels_to_dict(self.labels)
        try:
            return json.dumps({"format": FORMAT, **card}, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise BundleError(
                f"the card of this {self.model} cannot be written as JSON ({error}); change it"
            ) from error

    @classmethod
    def from_json(cls, text: str, where: str) -> BundleCard:
        """The card of a file's metadata. Raises BundleError if it is damaged, absurd or of a newer format."""
        try:
            raw = parse_card(text)
            if raw.pop("format") > FORMAT:
                raise _Newer
            raw.pop(DIGEST_KEY, None)  # `check_seal` looks at it
            if unknown := raw.keys() - {each.name for each in fields(cls)}:
                raise ValueError(f"unknown key {min(unknown)!r}")
            return TypeAdapter(cls).validate_python(raw)
        except _Newer:
            raise BundleError(f"{where} was written by a newer kerbseg; run: pip install -U kerbseg") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, KerbsegError) as error:
            raise BundleError(f"{where}: its card is damaged ({_brief(error)}); export or train it again") from error


class _Newer(Exception):
    """A card of a format to come."""


def parse_card(text: str) -> dict[str, Any]:
    """What a card's JSON says. Raises ValueError for what no card of ours holds."""
    if len(text) > LONGEST_CARD:
        raise ValueError(f"it has {len(text):,} characters")
    raw: dict[str, Any] = json.loads(text)
    json.dumps(raw, allow_nan=False, ensure_ascii=False).encode()  # Python reads NaN and halves of characters
    level: list[Any] = [raw]
    for _ in range(DEEPEST_CARD):
        level = [below for each in level for below in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
    if level:
        raise ValueError(f"it is nested more than {DEEPEST_CARD} levels deep")
    return raw


def _brief(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def versions() -> dict[str, str]:
    """Versions that a figure or a file depends on; without torch's where exported files are run without it."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    try:
        torch = {"torch": version("torch")}
    except PackageNotFoundError:
        torch = {}
    return {"kerbseg": version("kerbseg"), **torch, "python": python_version()}


def labels_to_dict(labels: LabelSet) -> dict[str, Any]:
    """A label set as JSON knows it."""
    return {
        "name": labels.name,
        "classes": list(labels.classes),
        "colors": [list(color) for color in labels.colors],
        "file_ids": {str(key): value for key, value in labels.file_ids.items()},
        "ignored_file_ids": sorted(labels.ignored_file_ids),
        "submission_ids": list(labels.submission_ids),
        "categories": {name: list(classes) for name, classes in labels.categories.items()},
        "background": sorted(labels.background),
    }
