"""What evaluation, prediction, timing and apps may ask of a runtime; no engine is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, Unpack, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

from kerbseg.core.errors import KerbsegError
from kerbseg.core.precision import Precision

if TYPE_CHECKING:
    from torch import Tensor

    from kerbseg.bundle import BundleCard
    from kerbseg.exported_card import ForeignCard, LastStageCard


ConfidenceMeasure = Literal["probability", "entropy", "margin"]
"""How sure a network is, 0 to 1: the probability of the class, 1 - entropy / log(classes), or how much the probability
is above that of the second class."""
ConfidenceDtype = Literal["float32", "uint8"]  # uint8 is 255 times it, rounded

Confidence = Float32[np.ndarray, "b h w"] | UInt8[np.ndarray, "b h w"]


class ConfidenceKeywords(TypedDict, total=False):
    """How a runtime's `with_confidence` says how sure it is."""

    measure: ConfidenceMeasure  # "probability" where left out
    dtype: ConfidenceDtype  # "float32" where left out


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how a runtime runs; None leaves the choice to it."""

    engine: str | None = None  # a name of `ENGINES`; the first that fits the file without it
    device: str = "cpu"
    threads: int | None = None  # of a processor; as many as the engine takes by itself without it
    precision: Precision | None = None


class RuntimeKeywords(TypedDict, total=False):
    """The fields of `RuntimeOptions`, as keywords of a function that opens a runtime."""

    engine: str | None
    device: str
    threads: int | None
    precision: Precision | None


@dataclass(frozen=True)
class LayerTime:
    """How long one operation takes."""

    name: str
    kind: str
    ms: float  # mean of one run


class Runtime(Protocol):
    """A network ready to run: whatever turns uint8 pictures into class ids, and what is said of it in a protocol."""

    card: BundleCard
    name: str  # of its engine
    device: str  # as it was asked for: cpu, cuda:1, tensorrt
    precision: Precision  # what it computes in
    threads: int  # of a processor
    size: tuple[int, int] | None  # height, width of the only pictures it takes; None for any

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids of RGB pictures, at their size."""

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """What the network says of each class, at its own resolution: before the last interpolation."""


class IdsOnly(KerbsegError):
    """A runtime was asked for more than it computes."""

    def __init__(self, runtime: str) -> None:
        super().__init__(
            f"{runtime} gives class ids without confidence; use the bundle (.safetensors), or an exported model with"
            " openvino or onnx"
        )


@runtime_checkable
class SupportsConfidence(Protocol):
    """A runtime that also tells how sure it is. Raises IdsOnly on a device where it does not."""

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids of RGB pictures, and how sure each pixel's is, at the temperature of the card.

        The ids are those without confidence.
        """


@runtime_checkable
class SupportsLogits(Protocol):
    """A runtime whose confidence can be measured. Raises IdsOnly on a device where it cannot."""

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float[Tensor, "b k h w"]]:
        """Class ids of RGB pictures, and the logits that they follow from, at the pictures' size."""


@runtime_checkable
class Exported(Protocol):
    """A runtime of an exported file, which says how its ids follow from its logits, and whether the network is ours."""

    last_stage: LastStageCard
    foreign: ForeignCard | None


@runtime_checkable
class Profilable(Protocol):
    """A runtime that shows where its time goes."""

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, without what comes before and after it."""

    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """Its operations on these pictures, in the order in which they run."""

    def synchronize(self) -> None:
        """Returns when the device has finished what was asked of it; a clock is read only then."""
