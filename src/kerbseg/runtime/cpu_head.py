"""The end of a runtime on a processor: an engine's logits, turned into ids without ever making full-size ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np
from jaxtyping import Float, Float32, UInt8

from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.exported_card import MOST_PICTURES, ExportedCard, LastStageCard
from kerbseg.runtime.checks import PictureCheck, check_finite
from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords
from kerbseg.runtime.upsample_argmax import UpsampleArgmax

if TYPE_CHECKING:
    from torch import Tensor

Logits = Float32[np.ndarray, "b _ _ _"] | UInt8[np.ndarray, "b _ _ _"]  # in the layout of the engine
Infer = Callable[[UInt8[np.ndarray, "b h w 3"]], Logits]


class CpuArgmaxHead:
    """A runtime calls `logits` for what the network says at its own resolution, and itself for class ids.

    `layout` is the order in which the engine holds its logits; nhwc, the classes of a pixel side by side, is that of
    the kernel behind this, and another costs a copy. `batch` is the only number of pictures that the graph takes, if
    there is one: others are shared out and filled up. Safe from any number of threads: one at a time has the engine,
    until what it needs of the engine's own memory is read.
    """

    def __init__(
        self,
        infer: Infer,
        exported: ExportedCard,
        threads: int,
        layout: Literal["nchw", "nhwc"] = "nhwc",
        batch: int | None = None,
    ) -> None:
        self._infer, self._exported, self._threads, self._layout = infer, exported, threads, layout
        if batch is not None and not 1 <= batch <= MOST_PICTURES:
            raise BundleError(
                f"the graph takes batches of {batch} pictures; export it again, for {MOST_PICTURES} at most"
            )
        self._batch = batch
        self._check = PictureCheck(exported.card.input_size)
        self._last_stage: UpsampleArgmax | None = None
        self._one_at_a_time = Lock()

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._in_batches(pictures, lambda logits: self._in_float(logits).transpose(0, 3, 1, 2).copy("C"))

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return self._in_batches(pictures, self._argmax)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logits behind them, interpolated whole."""
        import torch  # which ids alone do without

        height, width = self._exported.card.input_size
        kept: list[np.ndarray] = []

        def read(logits: Logits) -> UInt8[np.ndarray, "b h w"]:
            kept.append(self._in_float(logits).copy())
            return self._argmax(logits)

        ids = self._in_batches(pictures, read)
        small = torch.from_numpy(np.concatenate(kept)).permute(0, 3, 1, 2)
        return ids, _interpolated(small, self._exported.last_stage)[..., :height, :width]

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is. Raises KerbsegError where none can be told."""
        foreign = self._exported.foreign
        if foreign is not None and not foreign.softmax:
            raise KerbsegError(
                f"{foreign.file} ends in probabilities of its own (a softmax or sigmoid before its logits are enlarged,"
                " or a sigmoid for each class), so the confidence in a pixel cannot be told; leave confidence out"
            )
        temperature, kept = self._exported.card.temperature, []

        def read(logits: Logits) -> UInt8[np.ndarray, "b h w"]:
            ids, confidence = self._stage_for(logits).with_confidence(logits, temperature or 1.0, **how)
            kept.append(confidence)
            return ids

        return self._in_batches(pictures, read), np.concatenate(kept)

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The engine on these pictures, up to its own logits."""
        batches = [filled for filled, _ in self._batches(pictures)]

        def run() -> object:
            with self._one_at_a_time:
                return [self._infer(filled) for filled in batches][-1]

        return run

    def _in_batches(
        self, pictures: UInt8[np.ndarray, "b h w 3"], read: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """What is read of the engine's logits, which are good until its next run."""
        results = []
        for filled, count in self._batches(pictures):
            with self._one_at_a_time:
                results.append(read(self._classes_last(self._infer(filled))[:count]))
        return results[0] if len(results) == 1 else np.concatenate(results)

    def _batches(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Iterator[tuple[UInt8[np.ndarray, "n h w 3"], int]]:
        """As many pictures at once as the graph takes, and how many of them are not there to fill up."""
        checked = self._check(pictures)
        whole = self._batch or len(checked)
        for first in range(0, len(checked), whole):
            batch = checked[first : first + whole]
            lacking = whole - len(batch)
            yield (np.concatenate([batch, batch[-1:].repeat(lacking, 0)]) if lacking else batch), len(batch)

    def _classes_last(self, logits: Logits) -> Logits:
        if logits.dtype != self._exported.last_stage.dtype:
            raise BundleError(
                f"the graph gives logits of {logits.dtype}, its card says {self._exported.last_stage.dtype}; export it"
                " again"
            )
        return logits if self._layout == "nhwc" else logits.transpose(0, 2, 3, 1)

    def _in_float(self, logits: Logits) -> Float32[np.ndarray, "b H W k"]:
        """What the levels of uint8 logits stand for."""
        scale, zero_point = self._exported.last_stage.scale, self._exported.last_stage.zero_point
        if scale is None or zero_point is None:
            return logits
        return (logits.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)

    def _argmax(self, logits: Logits) -> UInt8[np.ndarray, "b h w"]:
        return self._stage_for(logits)(logits)

    def _stage_for(self, logits: Logits) -> UpsampleArgmax:
        """The last stage, once these logits are such as it may have."""
        if self._last_stage is None:
            last_stage, card = self._exported.last_stage, self._exported.card
            if logits.shape[3] != len(card.labels):
                raise BundleError(f"the graph gives {logits.shape[3]} classes, its card says {len(card.labels)}")
            inner = (logits.shape[1], logits.shape[2])
            self._last_stage = UpsampleArgmax(
                inner,
                last_stage.padded,
                last_stage.align_corners,
                card.input_size,
                self._threads,
                coordinates=last_stage.coordinates,
                scale=last_stage.scale,
                zero_point=last_stage.zero_point or 0,
            )
        if logits.dtype != np.uint8:
            check_finite(logits)
        return self._last_stage


def _interpolated(small: Float[Tensor, "b k h w"], last_stage: LastStageCard) -> Float[Tensor, "b k H W"]:
    """Logits at the padded size."""
    import torch

    size = last_stage.padded
    if last_stage.coordinates is None:
        return torch.nn.functional.interpolate(small, size, mode="bilinear", align_corners=last_stage.align_corners)
    for axis, target in ((2, size[0]), (3, size[1])):  # torch does not know this rule
        source = small.shape[axis]
        place = torch.arange(target) * (source / target)
        before = place.long()
        weight = (place - before).view([target if each == axis else 1 for each in range(4)])
        after = (before + 1).clamp(max=source - 1)
        small = torch.lerp(small.index_select(axis, before), small.index_select(axis, after), weight)
    return small
