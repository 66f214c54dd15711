"""Optimizers and learning-rate schedules of a recipe; each has the keys that it uses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Tag
from pydantic.dataclasses import dataclass

from kerbseg.train.recipe_values import (
    STRICT,
    BelowOne,
    Count,
    Inside,
    NotNegative,
    Positive,
    Share,
    rising,
    tag_of,
)


@dataclass(frozen=True, config=STRICT)
class ParamGroup:
    """A part of the network that moves at a rate of its own."""

    prefix: str  # of the names of its weights, such as `encoder.`
    lr: Positive  # its learning rate
    until: NotNegative | None = None  # epochs after which it moves as the rest; all of training without it
    freeze_norm: bool = True  # its batch-norm keeps its statistics, and normalizes by them, meanwhile


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Optimizer:
    """How weights move."""

    name: str
    lr: Positive = 1e-3  # learning rate, the highest of the schedule
    weight_decay: NotNegative = 0.0  # how strongly weights are drawn to 0
    weight_decay_until: NotNegative | None = None  # epochs after which there is none; all of training without it
    # weights without weight decay: depthwise convolutions, batch-norm, biases
    no_decay: tuple[Literal["depthwise", "norm", "bias"], ...] = ()
    clip: Positive | None = None  # largest norm of the gradient
    groups: tuple[ParamGroup, ...] = ()  # the first whose prefix fits a weight has it; the rest moves at `lr`

    def __post_init__(self) -> None:
        if self.weight_decay_until is not None and not self.weight_decay:
            raise ValueError("weight_decay_until ends a weight decay that is 0; set weight_decay, or leave it away")
        if self.no_decay and not self.weight_decay:
            raise ValueError("no_decay makes exceptions from a weight decay that is 0; set weight_decay")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Adam(_Optimizer):
    """Adam; weight decay is part of the gradient."""

    name: Literal["adam"] = "adam"
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)  # decay of both running means


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AdamW(_Optimizer):
    """Adam with weight decay beside the gradient."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)  # decay of both running means


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    momentum: BelowOne = 0.9  # share of the last step that goes on
    nesterov: bool = False  # look ahead along the momentum

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along a momentum that is 0; set momentum, or leave nesterov away")


Optimizer = Annotated[
    Annotated[Adam, Tag("adam")] | Annotated[AdamW, Tag("adamw")] | Annotated[Sgd, Tag("sgd")],
    tag_of("name", "adam"),
]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Schedule:
    """How the learning rate moves; all but plateau change it at every step."""

    name: str
    warmup: NotNegative = 0.0  # epochs of linear growth
    warmup_from: Share | None = None  # share of the rate at its first step; one step's growth without it


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Constant(_Schedule):
    """The rate stays."""

    name: Literal["constant"] = "constant"


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Plateau(_Schedule):
    """The rate falls when nothing becomes better."""

    name: Literal["plateau"] = "plateau"
    factor: Inside = 0.1  # the rate is multiplied by it
    patience: Count = 10  # validations without progress
    watch: Literal["metric", "loss"] = "metric"  # the validation's figure, or the loss in training


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Step(_Schedule):
    """The rate falls at some epochs."""

    name: Literal["step"] = "step"
    milestones: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(rising)]  # epochs at which it falls
    factor: Inside = 0.1  # the rate is multiplied by it


@dataclass(frozen=True, config=STRICT, kw_only=True)
class _Falling(_Schedule):
    hold: Count | None = None  # epochs between two changes of the rate; it changes at every step without it
    late: bool = False  # each step has the rate that the one before should have had


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Exponential(_Falling):
    """The rate falls by the same factor after each epoch."""

    name: Literal["exponential"] = "exponential"
    factor: Inside = 0.1  # the rate is multiplied by it
    after: NotNegative = 0.0  # epochs before it begins to fall


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Poly(_Falling):
    """A power of what is left of training."""

    name: Literal["poly"] = "poly"
    power: Positive = 0.9  # 1 falls in a straight line
    min_lr_ratio: Share = 0.0  # lowest share of the learning rate


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Cosine(_Falling):
    """Half a cosine."""

    name: Literal["cosine"] = "cosine"
    min_lr_ratio: Share = 0.0  # lowest share of the learning rate


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OneCycle(_Falling):
    """Up to the rate by half a cosine, and down by another."""

    name: Literal["one_cycle"] = "one_cycle"
    pct_start: Inside = 0.3  # share of training that it climbs
    min_lr_ratio: Share = 0.0  # lowest share of the learning rate, at the end


Schedule = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Poly, Tag("poly")]
    | Annotated[Step, Tag("step")]
    | Annotated[Plateau, Tag("plateau")]
    | Annotated[OneCycle, Tag("one_cycle")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Exponential, Tag("exponential")],
    tag_of("name", "poly"),
]
