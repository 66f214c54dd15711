"""Steadier class ids in a video: a vote of each pixel's classes over time that follows what moves, for any runtime."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import KerbsegError
from kerbseg.predict.temporal.optical_flow import Gray, OpticalFlow
from kerbseg.runtime import Runtime

FORGOTTEN = 1e-3
"""A class whose votes are all below this is left out of the count."""


class TemporalVote:
    """A runtime whose pictures are successive frames of one video, and whose ids are each pixel's vote over them.

    A frame that is n frames old votes with `memory ** n`; the class with the most votes wins. Votes move with their
    pixels, by optical flow; where that cannot be trusted (see `OpticalFlow`), as at what just came into sight, the vote
    begins with this frame.
    """

    def __init__(self, runtime: Runtime, memory: float) -> None:
        self.card, self.name, self.device, self.size = runtime.card, runtime.name, runtime.device, runtime.size
        self.precision, self.threads = runtime.precision, runtime.threads
        self.memory = checked_memory(memory)
        self._runtime = runtime
        self._flow = OpticalFlow("ultrafast")  # steadies nearly as much as medium, in less than half the time
        self._before: Gray | None = None
        self._votes: dict[int, Float32[np.ndarray, "h w"]] = {}  # of each class that has some

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """The winners, at the pictures' size; other sizes than before begin anew."""
        ids = self._runtime(pictures)
        return np.stack([self._vote(picture, each) for picture, each in zip(pictures, ids, strict=True)])

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Those of the runtime: the vote is over ids."""
        return self._runtime.logits(pictures)

    def _vote(self, picture: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
        self._warp(self._flow.gray(picture))
        winner, most = ids.copy(), np.zeros(ids.shape, np.float32)
        for each in np.flatnonzero(np.bincount(ids.ravel())).tolist():
            votes = self._votes.setdefault(each, np.zeros(ids.shape, np.float32))
            votes += ids == each
        for each, votes in self._votes.items():
            more = votes > most
            winner[more] = each
            np.maximum(most, votes, out=most)
        return winner

    def _warp(self, now: Gray) -> None:
        """Takes the votes to this frame, a frame older."""
        before, self._before = self._before, now
        if before is None or before.shape != now.shape:
            self._votes = {}
            return
        forward, trusted = self._flow(now, before)
        weight = trusted * np.float32(self.memory)
        warped = {each: self._flow.warp(votes, forward) * weight for each, votes in self._votes.items()}
        self._votes = {each: votes for each, votes in warped.items() if votes.max() > FORGOTTEN}


def checked_memory(memory: float) -> float:
    """The memory. Raises KerbsegError where it would change nothing, or forget nothing."""
    if not 0.5 < memory < 1:
        raise KerbsegError(
            f"smooth is {memory:g}; give more than 0.5 (below it the newest frame outvotes all before) and less than 1"
        )
    return memory


def delay(memory: float) -> int:
    """After so many frames in a row a new class wins over one of long standing: the smallest n with memory^n < 1/2."""
    return math.floor(math.log(0.5) / math.log(memory)) + 1
