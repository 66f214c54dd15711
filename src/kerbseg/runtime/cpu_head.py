"""The end of a runtime on a processor: an engine's logits, turned into ids without ever making full-size ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.checks import checked_pictures
from kerbseg.runtime.upsample_argmax import UpsampleArgmax

Infer = Callable[[UInt8[np.ndarray, "b h w 3"]], Float32[np.ndarray, "b _ _ _"]]  # in the layout of the engine


class CpuArgmaxHead:
    """A runtime calls `logits` for what the network says at its own resolution, and itself for class ids.

    `layout` is the order in which the engine holds its logits; nhwc, the classes of a pixel side by side, is that of
    the kernel behind this, and another costs a copy.
    """

    def __init__(
        self, infer: Infer, exported: ExportedCard, threads: int, layout: Literal["nchw", "nhwc"] = "nhwc"
    ) -> None:
        self._infer, self._exported, self._threads, self._layout = infer, exported, threads, layout
        self._last_stage: UpsampleArgmax | None = None

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._borrowed_logits(pictures).transpose(0, 3, 1, 2).copy(order="C")

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        logits = self._borrowed_logits(pictures)
        if self._last_stage is None:
            last_stage, size = self._exported.last_stage, self._exported.card.input_size
            inner = (logits.shape[1], logits.shape[2])
            self._last_stage = UpsampleArgmax(inner, last_stage.padded, last_stage.align_corners, size, self._threads)
        return self._last_stage(logits)

    def _borrowed_logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b H W k"]:
        """Logits in the engine's own memory, good until its next run."""
        logits = self._infer(checked_pictures(pictures, self._exported.card.input_size))
        return logits if self._layout == "nhwc" else logits.transpose(0, 2, 3, 1)
