"""What an exported file of ours carries beside its graph: its cards, and the names of its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from kerbseg.bundle_card import METADATA_KEY, BundleCard
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.limits import network_pixels
from kerbseg.core.precision import Precision
from kerbseg.core.strides import STRIDES, padded_size

LAST_STAGE_KEY = "kerbseg_last_stage"  # of a file's metadata
FOREIGN_KEY = "kerbseg_foreign"  # in it where `kerbseg accelerate` wrote the file
MOST_PICTURES = 1024  # in a graph's fixed batch, which is filled up where there are fewer
LEVELS = 256  # of logits in uint8
UNKNOWN = "unexpected_keyword_argument"  # pydantic's kind of error for a field that a dataclass does not have
INPUT = "uint8 RGB NHWC, nothing to normalize"  # for whoever runs the graph without us
PICTURES, IDS, LOGITS = "pictures", "ids", "logits"  # tensors of the graph


@dataclass(frozen=True)
class LastStageCard:
    """How class ids follow from the tensor `logits` inside the graph, so that a runtime may do it in a cheaper way.

    Logits of dtype uint8 lie on 256 levels: a level q means `scale * (q - zero_point)`. The graph itself holds those
    floats, so that whoever does not know of the levels still computes the same ids.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # a newer file may mean something that is not known here

    padded: tuple[int, int]  # height, width that the logits are interpolated to, and then cropped to the picture's
    align_corners: bool
    precision: Precision  # what the network before it computes in
    dtype: Literal["float32", "uint8"] = "float32"  # of the logits that a runtime may have of the graph
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    zero_point: Annotated[int, Field(ge=0, le=LEVELS - 1)] | None = None
    coordinates: Literal["asymmetric"] | None = None  # of pixels, where these are neither of the two that torch knows

    @property
    def bounds(self) -> tuple[float, float]:
        """The logits of the lowest and the highest level; of uint8 only."""
        if self.scale is None or self.zero_point is None:
            raise BundleError(f"logits of {self.dtype} without a scale and a zero point have no levels")
        return -self.zero_point * self.scale, (LEVELS - 1 - self.zero_point) * self.scale

    def checked(self) -> LastStageCard:
        """Itself. Raises KerbsegError where uint8 logits have no levels, or others have some."""
        levels = self.scale is not None, self.zero_point is not None
        if levels != (self.dtype == "uint8",) * 2:
            raise KerbsegError(f"logits of {self.dtype} with scale {self.scale} and zero point {self.zero_point}")
        return self

    def to_json(self) -> str:
        """Without what stands at its default, so that older versions read what they can run."""
        return json.dumps(
            {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        )


@dataclass(frozen=True)
class ForeignCard:
    """What is known of a network that is none of ours, and was brought here by `kerbseg accelerate`."""

    file: str  # its name before
    parameters: int  # of convolutions and linear layers
    macs: int | None  # of these for one picture; None where the graph does not tell
    softmax: bool = True  # whether the softmax of its logits is its confidence; not where these are probabilities
    logits: str | None = None  # the tensor that was chosen by name


@dataclass(frozen=True)
class ExportedCard:
    """The cards of a file."""

    card: BundleCard  # its input size is the only one that the file takes
    last_stage: LastStageCard
    foreign: ForeignCard | None = None  # of a network that is not registered; `card.model` is its name then

    def to_metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        foreign = {} if self.foreign is None else {FOREIGN_KEY: json.dumps(asdict(self.foreign))}
        return {METADATA_KEY: self.card.to_json(), LAST_STAGE_KEY: self.last_stage.to_json(), **foreign}

    def for_others(self) -> dict[str, str]:
        """What other programs need to know, beside the cards, whose preprocessing is inside the graph already."""
        temperature = self.card.temperature
        own = {} if temperature is None else {"temperature": repr(temperature)}
        return {"input": INPUT, "names": json.dumps(self.card.labels.classes), **own}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ExportedCard:
        """The cards in a file's metadata.

        Raises BundleError where there are none, or damaged ones, or two that do not belong together.
        """
        if METADATA_KEY not in metadata or LAST_STAGE_KEY not in metadata:
            raise BundleError(
                f"{where} carries no kerbseg card; make it with: kerbseg export BUNDLE -o {where}, or, of an ONNX or"
                f" OpenVINO network of others: kerbseg accelerate {where} -o OUT"
            )
        card = BundleCard.from_json(metadata[METADATA_KEY], where)
        try:
            last_stage = TypeAdapter(LastStageCard).validate_json(metadata[LAST_STAGE_KEY]).checked()
            if FOREIGN_KEY in metadata:
                return cls(card, last_stage, _foreign(metadata[FOREIGN_KEY], card, last_stage))
            padded = padded_size(card.input_size, _stride(card.model))
        except ValidationError as error:
            if unknown := [str(each["loc"][-1]) for each in error.errors() if each["type"] == UNKNOWN]:
                raise BundleError(
                    f"{where}: its card has {', '.join(unknown)}, which this version of kerbseg does not know; install"
                    " a newer one, or export it again"
                ) from error
            raise BundleError(f"{where}: its card is damaged ({error.errors()[0]['msg']}); export it again") from error
        except KerbsegError as error:
            raise BundleError(f"{where}: its card is damaged ({error}); export it again") from error
        if last_stage.padded != padded:
            raise BundleError(
                f"{where}: its card is damaged (pictures of {_hw(card.input_size)} padded to {_hw(last_stage.padded)},"
                f" where {card.model} needs {_hw(padded)}); export it again"
            )
        return cls(card, last_stage)

    def check_tensors(self, pictures: Sequence[int | None], logits: Sequence[int | None], where: str) -> None:
        """Raises BundleError where the graph's tensors [b h w 3] and [b k H W] are not those that the card tells of.

        A dimension that an engine does not know is None.
        """
        expected = (None, *self.card.input_size, 3)
        if not _fits(pictures, expected):
            raise BundleError(
                f"{where}: its graph takes {list(pictures)}, its card says {list(expected)}; export it again"
            )
        height, width = (None, None) if len(logits) != 4 else logits[2:]
        padded = self.last_stage.padded
        bounded = all(own is None or own <= most for own, most in zip((height, width), padded, strict=True))
        if not _fits(logits, (None, len(self.card.labels), None, None)) or not bounded:
            raise BundleError(
                f"{where}: its graph gives logits {list(logits)}, its card says {len(self.card.labels)} classes of at"
                f" most {_hw(padded)}; export it again"
            )


def _stride(model: str) -> int:
    """Of a network. Raises KerbsegError for a name that is not registered."""
    if model in STRIDES:
        return STRIDES[model]
    from kerbseg.models import card  # and with it torch

    return card(model).stride


def _foreign(text: str, card: BundleCard, last_stage: LastStageCard) -> ForeignCard:
    """The card of another house's network. Raises ValidationError, or KerbsegError where it does not fit the others."""
    foreign = TypeAdapter(ForeignCard).validate_json(text)
    try:
        network_pixels(last_stage.padded)
    except ValueError as error:
        raise KerbsegError(f"padded to {error}") from error
    if not all(own <= most for own, most in zip(card.input_size, last_stage.padded, strict=True)):
        raise KerbsegError(f"pictures of {_hw(card.input_size)} padded to {_hw(last_stage.padded)}")
    return foreign


def _fits(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        None in (one, other) or one == other for one, other in zip(shape, expected, strict=True)
    )


def _hw(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
