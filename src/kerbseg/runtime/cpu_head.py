"""The end of a runtime on a processor: an engine's logits, turned into ids without ever making full-size ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import BundleError
from kerbseg.exported_card import MOST_PICTURES, ExportedCard
from kerbseg.runtime.checks import PictureCheck, check_finite
from kerbseg.runtime.upsample_argmax import UpsampleArgmax

if TYPE_CHECKING:
    from torch import Tensor

Infer = Callable[[UInt8[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b _ _ _"]]  # in the layout of the engine


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
        return self._in_batches(pictures, lambda logits: logits.transpose(0, 3, 1, 2).copy(order="C"))

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return self._in_batches(pictures, self._argmax)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logits behind them, interpolated whole."""
        import torch  # which ids alone do without

        last_stage, (height, width) = self._exported.last_stage, self._exported.card.input_size
        kept: list[np.ndarray] = []

        def read(logits: Float32[np.ndarray, "b H W k"]) -> UInt8[np.ndarray, "b h w"]:
            kept.append(logits.copy())
            return self._argmax(logits)

        ids = self._in_batches(pictures, read)
        small = torch.from_numpy(np.concatenate(kept)).permute(0, 3, 1, 2)
        whole = torch.nn.functional.interpolate(
            small, last_stage.padded, mode="bilinear", align_corners=last_stage.align_corners
        )
        return ids, whole[..., :height, :width]

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[np.ndarray, "b h w"]]:
        """Class ids at the pictures' size, and the probability of each."""
        from kerbseg.runtime.confidence import confidence

        ids, logits = self.with_logits(pictures)
        return ids, confidence(ids, logits, self._exported.card.temperature)

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

    def _classes_last(self, logits: Float32[np.ndarray, "b _ _ _"]) -> Float32[np.ndarray, "b H W k"]:
        return logits if self._layout == "nhwc" else logits.transpose(0, 2, 3, 1)

    def _argmax(self, logits: Float32[np.ndarray, "b H W k"]) -> UInt8[np.ndarray, "b h w"]:
        if self._last_stage is None:
            last_stage, card = self._exported.last_stage, self._exported.card
            if logits.shape[3] != len(card.labels):
                raise BundleError(f"the graph gives {logits.shape[3]} classes, its card says {len(card.labels)}")
            inner = (logits.shape[1], logits.shape[2])
            self._last_stage = UpsampleArgmax(
                inner, last_stage.padded, last_stage.align_corners, card.input_size, self._threads
            )
        check_finite(logits)
        return self._last_stage(logits)
