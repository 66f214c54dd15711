"""A network that takes several calls at the same time, each with its own part of the threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, TypeVar, Unpack, cast, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords, IdsOnly, Runtime, SupportsConfidence

if TYPE_CHECKING:
    from kerbseg.bundle import BundleCard
    from kerbseg.core.precision import Precision

CALLS = 2
"""Calls at the same time: enough that no core waits for a frame, and no more, since each has memory of its own."""

Result = TypeVar("Result")


@runtime_checkable
class Divisible(Protocol):
    """A runtime that can share out its threads, on a processor, among calls that come at the same time."""

    def divided(self, calls: int) -> Sequence[Runtime]:
        """So many runtimes of the same network, each for one call at a time, with `threads // calls` threads."""


class SharedRuntime:
    """Runtimes of one network: each call goes to one that is free, or waits for it.

    The threads of one call wait for each other again and again, which costs little while every thread has a core, and
    much where decoding or encoding takes one away. Calls side by side never wait for each other: more pictures a
    second, each of which takes longer.
    """

    def __init__(self, runtimes: Sequence[Runtime]) -> None:
        first = runtimes[0]
        self.card: BundleCard = first.card
        self.name, self.device = first.name, first.device
        self.precision: Precision = first.precision
        self.size: tuple[int, int] | None = first.size
        self.threads = sum(each.threads for each in runtimes)
        self.calls = len(runtimes)
        self._free: SimpleQueue[Runtime] = SimpleQueue()
        for each in runtimes:
            self._free.put(each)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return self._with_free(lambda runtime: runtime(pictures))

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._with_free(lambda runtime: runtime.logits(pictures))

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is. Raises IdsOnly where there is none."""

        def ask(runtime: Runtime) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
            if not isinstance(runtime, SupportsConfidence):
                raise IdsOnly(runtime.name)
            return runtime.with_confidence(pictures, **how)

        return self._with_free(ask)

    def _with_free(self, ask: Callable[[Runtime], Result]) -> Result:
        runtime = self._free.get()
        try:
            return ask(runtime)
        finally:
            self._free.put(runtime)


def shared(runtime: Runtime, calls: int = CALLS) -> SharedRuntime | None:
    """The runtime for so many calls at the same time; None for one, with fewer threads than that, and on a GPU."""
    if calls < 2 or runtime.device != "cpu" or runtime.threads < calls or not isinstance(runtime, Divisible):
        return None
    return SharedRuntime(runtime.divided(calls))


class _OneAtATime(SharedRuntime):
    """A runtime that is called by turns; those that it is divided into have turns of their own."""

    def __init__(self, runtime: Divisible) -> None:
        super().__init__([cast("Runtime", runtime)])
        self._whole = runtime

    def divided(self, calls: int) -> Sequence[Runtime]:
        """So many runtimes of the same network, each for one call at a time, with `threads // calls` threads."""
        return self._whole.divided(calls)


def one_at_a_time(runtime: Runtime) -> SharedRuntime:
    """The runtime for calls from any number of threads: each waits for the one before."""
    return _OneAtATime(runtime) if isinstance(runtime, Divisible) else SharedRuntime([runtime])
