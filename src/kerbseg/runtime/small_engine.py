"""What the runtimes of small engines have in common: one picture at a time, up to its logits; the end is ours."""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import KerbsegError
from kerbseg.core.precision import Precision
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.cpu_head import CpuArgmaxHead, Infer
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords, LayerTime, RuntimeOptions

if TYPE_CHECKING:
    from torch import Tensor


class SmallEngine(ABC):
    """A file of ours in an engine that takes one picture at a time; its last stage is our own.

    A runtime says how its file is read and how it is run; `name` is its engine's.
    """

    name: str

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        engine = ENGINES[self.name]
        if options.device != "cpu":
            raise KerbsegError(f"{engine.summary} runs on the CPU here, not on {options.device!r}; leave --device out")
        self.device, self.threads = options.device, checked_threads(options.threads)
        self._path = path
        exported = self._read()
        self.precision: Precision = exported.last_stage.precision
        if options.precision not in (None, self.precision):
            raise KerbsegError(
                f"{path} computes in {self.precision}, not in {options.precision}; leave --precision out"
            )
        self.card, self.last_stage, self.foreign = exported.card, exported.last_stage, exported.foreign
        self.size: tuple[int, int] | None = exported.card.input_size
        self._exported = exported
        self._begin()

    @abstractmethod
    def _read(self) -> ExportedCard:
        """The cards of the file at `_path`. Raises BundleError where it is damaged, foreign or not whole."""

    @abstractmethod
    def _opened(self) -> Infer:
        """What gives the logits of one picture, with `threads` threads. Raises BundleError where it cannot be had."""

    def _begin(self) -> None:
        layout = ENGINES[self.name].logits_layout
        self._head = CpuArgmaxHead(self._opened(), self._exported, self.threads, layout, batch=1)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return self._head(pictures)

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._head.logits(pictures)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logits behind them."""
        return self._head.with_logits(pictures)

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is."""
        return self._head.with_confidence(pictures, **how)

    def synchronize(self) -> None:  # noqa: B027 # there is nothing to wait for
        """A call of such an engine returns when its result is there."""

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, with the conversion to float, up to its own logits."""
        return self._head.forward_only(pictures)

    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """The whole network as one: from Python these engines do not tell how long an operation takes."""
        run = self.forward_only(pictures)
        begun = time.perf_counter()
        for _ in range(runs):
            run()
        ms = 1e3 * (time.perf_counter() - begun) / runs
        return [LayerTime(self._path.name, f"{ENGINES[self.name].summary}, the whole network", ms)]


class DividedEngine(SmallEngine):
    """A small engine whose threads are those of one network, not of the process."""

    def divided(self, calls: int) -> list[DividedEngine]:
        """Runtimes of this network, each for one call at a time, with `threads // calls` threads."""
        parts = [copy.copy(self) for _ in range(calls)]
        for part in parts:
            part.threads = self.threads // calls
            part._begin()
        return parts
