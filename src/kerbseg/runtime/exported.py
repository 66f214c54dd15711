"""What ONNX and OpenVINO files of ours carry beside their graph, and what their runtimes share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import TypeAdapter, ValidationError

from kerbseg.bundle import METADATA_KEY, BundleCard
from kerbseg.core.errors import BundleError, InputError, UserError

LAST_STAGE_KEY = "kerbseg_last_stage"  # of a file's metadata
PICTURES, IDS, SCORES = "pictures", "ids", "scores"  # tensors of the graph

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class LastStageCard:
    """How class ids follow from the tensor `scores` inside the graph, so that a runtime may do it in a cheaper way."""

    padded: tuple[int, int]  # height, width that the scores are interpolated to, and then cropped to the picture's
    align_corners: bool
    precision: Precision


@dataclass(frozen=True)
class Exported:
    """The cards of a file."""

    card: BundleCard  # its input size is the only one that the file takes
    last_stage: LastStageCard

    def to_metadata(self) -> dict[str, str]:
        """As it stands in the file."""
        return {METADATA_KEY: self.card.to_json(), LAST_STAGE_KEY: json.dumps(asdict(self.last_stage))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Exported:
        """The cards in a file's metadata. Raises BundleError where there are none, or damaged ones."""
        if METADATA_KEY not in metadata or LAST_STAGE_KEY not in metadata:
            raise BundleError(f"{where} carries no kerbseg card; make it with: kerbseg export BUNDLE -o {where}")
        card = BundleCard.from_json(metadata[METADATA_KEY], where)
        try:
            last_stage = TypeAdapter(LastStageCard).validate_json(metadata[LAST_STAGE_KEY])
        except ValidationError as error:
            raise BundleError(f"{where}: its card is damaged ({error.errors()[0]['msg']}); export it again") from error
        return cls(card, last_stage)


def all_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Infer = Callable[[UInt8[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b H W k"]]


class CpuArgmaxHead:
    """The end of a runtime on a CPU: an engine's scores, turned into ids without full-size scores.

    A runtime calls `scores` for what the network says at its own resolution, and itself for class ids. The engine gives
    the classes of a pixel side by side (NHWC): in this order it computes them, and another would cost a copy.
    """

    def __init__(self, infer: Infer, exported: Exported, threads: int) -> None:
        self._infer, self._exported, self._threads = infer, exported, threads
        self._last: Callable[[Float32[np.ndarray, "b h w k"]], UInt8[np.ndarray, "b H W"]] | None = None

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k h w"]:
        """Scores of the classes before the last interpolation."""
        return np.ascontiguousarray(self._borrowed_logits(pictures).transpose(0, 3, 1, 2))

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        scores = self._borrowed_logits(pictures)
        if self._last is None:
            from kerbseg.runtime.upsample_argmax import UpsampleArgmax

            how, size = self._exported.last_stage, self._exported.card.input_size
            inner = (scores.shape[1], scores.shape[2])
            self._last = UpsampleArgmax(inner, how.padded, how.align_corners, size, self._threads)
        return self._last(scores)

    def _borrowed_logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b h w k"]:
        """Scores in the engine's own memory, good until its next run."""
        return self._infer(checked(pictures, self._exported.card.input_size))


def checked(pictures: UInt8[np.ndarray, "b h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "b h w 3"]:
    """The pictures, contiguous. Raises InputError for another type or size."""
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise InputError(f"a runtime takes uint8 [b h w 3] RGB, found {pictures.dtype} {list(pictures.shape)}")
    if pictures.shape[1:3] != size:
        found = "x".join(map(str, pictures.shape[1:3]))
        raise InputError(
            f"this file takes pictures of {size[0]}x{size[1]} (HxW), found {found}; resize them, or export for {found}"
        )
    return np.ascontiguousarray(pictures)


def checked_threads(threads: int | None) -> int:
    """The number asked for, or all. Raises UserError for less than one."""
    if threads is not None and threads < 1:
        raise UserError(f"threads is {threads}; give at least 1, or leave it out for all")
    return threads or all_threads()
