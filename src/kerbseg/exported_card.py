"""What an exported file of ours carries beside its graph: its cards, and the names of its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError

from kerbseg.bundle_card import METADATA_KEY, BundleCard
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.precision import Precision
from kerbseg.core.strides import STRIDES, padded_size

LAST_STAGE_KEY = "kerbseg_last_stage"  # of a file's metadata
MOST_PICTURES = 1024  # in a graph's fixed batch, which is filled up where there are fewer
INPUT = "uint8 RGB NHWC, nothing to normalize"  # for whoever runs the graph without us
PICTURES, IDS, LOGITS = "pictures", "ids", "logits"  # tensors of the graph


@dataclass(frozen=True)
class LastStageCard:
    """How class ids follow from the tensor `logits` inside the graph, so that a runtime may do it in a cheaper way."""

    padded: tuple[int, int]  # height, width that the logits are interpolated to, and then cropped to the picture's
    align_corners: bool
    precision: Precision  # what the network before it computes in


@dataclass(frozen=True)
class ExportedCard:
    """The cards of a file."""

    card: BundleCard  # its input size is the only one that the file takes
    last_stage: LastStageCard

    def to_metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        return {METADATA_KEY: self.card.to_json(), LAST_STAGE_KEY: json.dumps(asdict(self.last_stage))}

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
            raise BundleError(f"{where} carries no kerbseg card; make it with: kerbseg export BUNDLE -o {where}")
        card = BundleCard.from_json(metadata[METADATA_KEY], where)
        try:
            last_stage = TypeAdapter(LastStageCard).validate_json(metadata[LAST_STAGE_KEY])
            padded = padded_size(card.input_size, _stride(card.model))
        except ValidationError as error:
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


def _fits(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        None in (one, other) or one == other for one, other in zip(shape, expected, strict=True)
    )


def _hw(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
