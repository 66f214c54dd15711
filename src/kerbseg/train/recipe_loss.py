"""What a recipe makes small: the loss of the logits, and those of heads that exist while training only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Tag
from pydantic.dataclasses import dataclass

from kerbseg.train.recipe_values import (
    STRICT,
    BelowOne,
    Count,
    Few,
    Inside,
    NotNegative,
    Place,
    Positive,
    Share,
    some_weight,
    tag_of,
)

Average = Literal["weights", "pixels", "all", "pictures", "none"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _HardPixels:
    """Online hard example mining: the cross entropy counts hard pixels only."""

    rule: str


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Ohem(_HardPixels):
    """A share of the pixels counts at least, and each that is hard."""

    rule: Literal["share"] = "share"
    threshold: Share = 0.7  # a pixel is hard whose class has less probability
    min_kept: Share = 0.0625  # share of the pixels that counts, however easy they are


@dataclass(frozen=True, config=STRICT, kw_only=True)
class HrnetOhem(_HardPixels):
    """A number of pixels, as HRNet's, DDRNet's and PIDNet's authors have it; divides by the number that counts."""

    rule: Literal["hrnet"]
    threshold: Share = 0.9  # a pixel is hard whose class has less probability
    # pixels of the whole batch; where fewer are hard, the threshold is the probability of the next one in order
    min_kept: Count = 131_072


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PaddleOhem(_HardPixels):
    """A number of pixels, as PaddleSeg has it; divides by the number that counts and 1e-5 of all."""

    rule: Literal["paddleseg"]
    threshold: Share = 0.7  # a pixel is hard whose class has less probability
    # pixels of the whole batch; where fewer are hard, the threshold is the probability of the last of them in order
    min_kept: Count = 130_000


HardPixels = Annotated[
    Annotated[Ohem, Tag("share")] | Annotated[HrnetOhem, Tag("hrnet")] | Annotated[PaddleOhem, Tag("paddleseg")],
    tag_of("rule", "share"),
]


@dataclass(frozen=True, config=STRICT)
class Boundary:
    """The cross entropy of the pixels near another class, added."""

    weight: Positive = 1.0  # of this term
    radius: Annotated[int, Field(ge=1, le=100)] = 2  # pixels, either way


@dataclass(frozen=True, config=STRICT)
class Lovasz:
    """The Lovász-softmax loss, added; `lovasz: 0.5` is short for its weight."""

    weight: Positive = 1.0  # of this term
    start: BelowOne = 0.0  # share of the epochs before it is added
    at: Place | None = None  # where it compares; as the rest of the loss without it


def _weight_alone(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Lovasz(float(value)) if value else None
    return value


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _LossTerms:
    """Cross entropy: how classes are weighted, over what it is averaged, and what is added."""

    weights: str
    # divide by the sum of weights, or by the number of these (`all`: void pixels too); `none` sums up all pixels
    average: Average = "pixels"
    at: Place = "picture"  # where logits and labels are compared
    smoothing: Share = 0.0  # of labels: share of the target that all classes get
    ohem: HardPixels | None = None  # hard pixels only; all count without it
    boundary: Boundary | None = None  # more for pixels near another class
    lovasz: Annotated[Lovasz | None, BeforeValidator(_weight_alone)] = None  # a term that follows the IoU

    def __post_init__(self) -> None:
        if self.ohem is not None and self.ohem.rule != "share" and self.average != "pixels":
            raise ValueError(
                f"ohem.rule: {self.ohem.rule} divides by the pixels that it keeps, not as average: {self.average};"
                " leave average away"
            )


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PlainLoss(_LossTerms):
    """All classes weigh alike."""

    weights: Literal["none"] = "none"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class EnetLoss(_LossTerms):
    """Classes weigh 1 / ln(c + p), p their share of the pixels (ENet)."""

    weights: Literal["enet"] = "enet"
    constant: Annotated[float, Field(gt=1)] = 1.02  # c; above 1, or a class that does not occur has no weight


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MedianFrequencyLoss(_LossTerms):
    """Classes weigh the median of all frequencies by their own."""

    weights: Literal["median_frequency"] = "median_frequency"
    power: NotNegative = 1.0  # of that quotient


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ListLoss(_LossTerms):
    """Classes weigh what the recipe says."""

    weights: Literal["list"] = "list"
    values: Annotated[tuple[NotNegative, ...], Field(min_length=1), AfterValidator(some_weight)]  # one a class


Loss = Annotated[
    Annotated[PlainLoss, Tag("none")]
    | Annotated[EnetLoss, Tag("enet")]
    | Annotated[MedianFrequencyLoss, Tag("median_frequency")]
    | Annotated[ListLoss, Tag("list")],
    tag_of("weights", "none"),
]


@dataclass(frozen=True, config=STRICT)
class AuxHead:
    """A small head on features inside the network, whose loss is that of the logits; it exists while training only."""

    at: str  # module of the network whose output it reads, such as `features`
    weight: Positive = 0.4  # of its loss, added
    channels: Few = 64  # between its two convolutions


HeadWeight = Annotated[float, Field(gt=0, le=1000)]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _TrainingHead:
    """A head of the network itself that exists while training only; its name says which one."""

    loss: str
    weight: HeadWeight = 0.4  # of its loss, added


@dataclass(frozen=True, config=STRICT, kw_only=True)
class PixelHead(_TrainingHead):
    """It gives classes, and has the cross entropy of the logits, without what is added to that."""

    loss: Literal["pixel"] = "pixel"
    ohem: bool = True  # hard pixels only, where the loss of the logits is so; else all
    average: Average | None = None  # over what it is averaged without `ohem`; as that of the logits without this

    def __post_init__(self) -> None:
        if self.average is not None and self.ohem:
            raise ValueError(f"average: {self.average} is for a head that counts all pixels; add ohem: false")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class BoundaryHead(_TrainingHead):
    """It says where classes meet (PIDNet); where it is sure, the cross entropy of the logits counts once more."""

    loss: Literal["boundary"]
    weight: HeadWeight = 20.0  # of its binary cross entropy, added
    aware: Annotated[float, Field(ge=0, le=1000)] = 1.0  # weight of the logits' cross entropy there; 0: none
    threshold: Inside = 0.8  # probability from which on a pixel is one of them


Head = Annotated[
    Annotated[PixelHead, Tag("pixel")] | Annotated[BoundaryHead, Tag("boundary")],
    tag_of("loss", "pixel"),
]
