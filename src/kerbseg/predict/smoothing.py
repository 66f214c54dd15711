"""Steadier class ids in a video: a vote of each pixel's classes over time, for any runtime."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import UserError
from kerbseg.runtime import Runtime

LARGEST_VOTE = 1e15  # far from where float32 ends; then all votes are made smaller together


class Steady:
    """A runtime whose pictures are successive frames of one video, and whose ids are each pixel's vote over them.

    A frame that is n frames old votes with `memory ** n`: the winner is the argmax of the exponential average of the
    ids as one-hot vectors. The class before wins a tie. Pixels are not followed: what moves is late by `delay` frames.
    """

    def __init__(self, runtime: Runtime, memory: float) -> None:
        self.card, self.name, self.precision, self.size = runtime.card, runtime.name, runtime.precision, runtime.size
        self.memory = checked_memory(memory)
        self._runtime = runtime
        self._votes: Float32[np.ndarray, " kn"] = np.empty(0, np.float32)  # of class 0's pixels, of class 1's, ...
        self._places: np.ndarray = np.empty(0, np.intp)
        self._winner: UInt8[np.ndarray, "h w"] = np.empty((0, 0), np.uint8)
        self._vote = 1.0

    @property
    def delay(self) -> int:
        """After so many frames in a row a new class wins over one that was there for long."""
        return delay(self.memory)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """The winners, at the pictures' size; other sizes than before begin anew."""
        return np.stack([self._add(ids) for ids in self._runtime(pictures)])

    def _add(self, ids: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        if ids.shape != self._winner.shape:
            return self._begin(ids)
        # instead of making all votes before it smaller, the newest is made larger: one addition a pixel, and only the
        # class that it is for can become the winner
        self._vote /= self.memory
        mine = self._places + ids.ravel() * np.intp(ids.size)
        votes = self._votes[mine] + np.float32(self._vote)
        self._votes[mine] = votes
        before = self._votes[self._places + self._winner.ravel() * np.intp(ids.size)]
        self._winner = np.where((votes > before).reshape(ids.shape), ids, self._winner)
        if self._vote > LARGEST_VOTE:
            self._votes /= np.float32(self._vote)
            self._vote = 1.0
        return self._winner

    def _begin(self, ids: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        """The first frame stands for all that were before it."""
        self._winner = ids.copy()
        self._places = np.arange(ids.size, dtype=np.intp)
        self._votes = np.zeros(len(self.card.labels) * ids.size, np.float32)
        self._vote = 1.0
        self._votes[self._places + ids.ravel() * np.intp(ids.size)] = 1 / (1 - self.memory)
        return self._winner


def checked_memory(memory: float) -> float:
    """The memory. Raises UserError where it would change nothing, or forget nothing."""
    if not 0.5 < memory < 1:
        raise UserError(
            f"smooth is {memory:g}; give more than 0.5 (below it the newest frame outvotes all before) and less than 1"
        )
    return memory


def delay(memory: float) -> int:
    """The smallest n with memory ** n < 1/2."""
    return math.floor(math.log(0.5) / math.log(memory)) + 1
