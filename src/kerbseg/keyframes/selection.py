"""Keyframes online: one frame out of each window between two instants at which plain SLAM would take one.

A V-SLAM system takes the frame at which it notices that the view has moved enough. Here that instant (the frame is
*due*) only closes a window, and the best frame of the window is taken instead: one that is sharp, well lit, and shows
more of the target whole. The semantics weigh, the quality can rule out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from kerbseg.core.errors import InputError, did_you_mean
from kerbseg.keyframes.motion import Thumbnail, likeness
from kerbseg.keyframes.quality import RECENT, Measures
from kerbseg.keyframes.scores import FrameScores, judged_again

OnlineRule = Literal["window", "gate", "first", "middle"]
Static = Literal["keep", "skip"]
Reason = Literal["motion", "time", "due", "cut", "end", "all"]
"""What closed a window; `all` is the whole sequence, of the offline rules."""

STEP_PX, LONGEST_S = 48.0, 1.0
"""A frame is due after a motion of a tenth of the width, or ORB-SLAM2's MaxFrames: one second."""

BASE = 0.25  # what a frame without any target counts, beside 1 for one with the most
GATE = 0.8  # of the best quality: from there on a frame is as good as any other
REMEMBERED = 50  # keyframes that a new one is compared with
NOVELTY = 8  # power of the likeness: only what looks nearly the same is held to be known


@dataclass(frozen=True)
class Options:
    """When a frame is due, and which frame is taken then."""

    rule: OnlineRule = "window"
    step_px: float = STEP_PX  # motion, in pixels of a picture 480 wide
    longest_s: float = LONGEST_S
    static: Static = "keep"  # "skip": no keyframe while the view has hardly moved since the last one
    novelty: bool = False  # prefer what does not look like the last keyframes

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("rule", self.rule, get_args(OnlineRule)),
            ("static", self.static, get_args(Static)),
        ):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}; {did_you_mean(str(value), choices)}")
        if not 0 < self.step_px < float("inf") or not 0 < self.longest_s < float("inf"):
            raise InputError(f"a step of {self.step_px:g} px and {self.longest_s:g} s; both must be numbers above 0")


@dataclass(frozen=True)
class Candidate:
    """A frame that may still be taken, with what the caller wants back of it."""

    scores: FrameScores
    moved: float  # motion from the first frame to this one
    new: float = 1.0  # what is new in it, 0..1
    kept: Any = field(default=None, repr=False)

    @property
    def quality(self) -> float:
        """What it is worth without its target."""
        return self.scores.quality * self.new


@dataclass(frozen=True)
class Keyframe:
    """The frame that was taken in one window, beside the one that the plain rule takes."""

    scores: FrameScores
    window: int  # 0 for the first
    first: int  # frame that the window begins with
    last: int  # frame that was due, or the last before a cut or the end
    why: Reason  # what closed the window
    moved: float  # motion from the first frame of the sequence to this keyframe
    plain: FrameScores  # of the frame `last`
    kept: Any = field(default=None, repr=False, compare=False)
    kept_plain: Any = field(default=None, repr=False, compare=False)


class Selector:
    """Takes the frames of a sequence one by one, and gives a keyframe when its window closes.

    It holds those frames of the open window alone that could still be taken. The first 31 frames, whose qualities had
    little to be compared with, are judged again when their window closes. `due` may decide when a window closes, for a
    SLAM system that runs beside: it is called with each frame's scores.
    """

    def __init__(self, options: Options | None = None, due: Callable[[FrameScores], bool] | None = None) -> None:
        self._options = options or Options()
        self._due = due
        self._window, self._moved = 0, 0.0
        self._closed_moved, self._closed_ns = 0.0, 0  # at the last due instant
        self._taken_moved: float | None = None  # at the last keyframe of this shot
        self._known: deque[Thumbnail] = deque(maxlen=REMEMBERED)
        self._open: list[Candidate] = []
        self._first = self._last = Candidate(FrameScores(-1, 0, 0.0), 0.0)
        self._step_ns = 0  # from the frame before to the newest
        self._count = 0  # of frames in the open window
        self._early: list[Measures] = []  # of the first frames

    def add(self, scores: FrameScores, kept: Any = None) -> list[Keyframe]:
        """The keyframes of the windows that close with the next frame: none, one, or two at a cut."""
        self._step_ns = scores.time_ns - self._last.scores.time_ns if self._last.scores.index >= 0 else 0
        closed = self._close("cut") if scores.cut and self._count else []
        self._moved += scores.motion
        if scores.cut or self._first.scores.index < 0:  # a shot begins: nothing has moved yet
            self._closed_moved, self._closed_ns = self._moved, scores.time_ns
            self._taken_moved = None
        self._take(scores, kept)
        reason = self._reason(scores)
        if reason:
            self._closed_moved, self._closed_ns = self._moved, scores.time_ns
            closed += self._close(reason)
        return closed

    def finish(self) -> list[Keyframe]:
        """The keyframe of what is left at the end: of half a step at least, or where its shot has none."""
        if self._count and (self._taken_moved is None or self._moved - self._closed_moved >= self._options.step_px / 2):
            return self._close("end")
        return []

    def _reason(self, scores: FrameScores) -> Reason | None:
        if self._due is not None:
            return "due" if self._due(scores) else None
        if self._moved - self._closed_moved >= self._options.step_px:
            return "motion"
        # a frame that is nearer to the time than the next one can be is due: 15 frames at 15 a second, rounded or not
        elapsed_ns = scores.time_ns - self._closed_ns + self._step_ns / 2
        return "time" if elapsed_ns / 1e9 >= self._options.longest_s else None

    def _take(self, scores: FrameScores, kept: Any) -> None:
        """Holds the frame if it could be taken, and lets go of those that cannot be any more."""
        known = max((likeness(scores.thumbnail, each) for each in self._known), default=0.0)
        new = 1 - max(0.0, known) ** NOVELTY if self._options.novelty else 1.0
        if len(self._early) < RECENT and scores.measures is not None:
            self._early.append(scores.measures)
        frame = Candidate(scores, self._moved, new, kept)
        if not self._count:
            self._first = frame
        self._last = frame
        self._count += 1
        if self._options.rule == "first":
            self._open = [frame]
        elif self._options.rule == "middle" or self._first.scores.index < RECENT:
            self._open.append(frame)  # what it is worth is known when the window closes
        elif not any(_rules_out(each, frame) for each in self._open):
            self._open = [each for each in self._open if not _rules_out(frame, each)]
            self._open.append(frame)

    def _close(self, why: Reason) -> list[Keyframe]:
        first, last = self._first.scores.index, self._last
        frames = [self._judged_again(each) for each in self._open]
        self._open, self._count = [], 0
        still = self._taken_moved is not None and last.moved - self._taken_moved < self._options.step_px / 4
        if still and self._options.static == "skip" and why != "due":
            return []
        best = frames[choose(frames, self._options.rule, first, last.scores.index)]
        self._taken_moved = best.moved
        if self._options.novelty:
            self._known.append(best.scores.thumbnail)
        number, self._window = self._window, self._window + 1
        place = (number, first, last.scores.index, why, best.moved)
        return [Keyframe(best.scores, *place, last.scores, best.kept, last.kept)]

    def _judged_again(self, frame: Candidate) -> Candidate:
        if frame.scores.index >= RECENT:
            return frame
        return replace(frame, scores=judged_again(frame.scores, self._early))


def _rules_out(one: Candidate, other: Candidate) -> bool:
    """Whether one is taken before the other, whatever else the window will hold."""
    if one.quality < other.quality or one.scores.sem < other.scores.sem:
        return False
    better = one.quality > other.quality or (one.scores.sem > other.scores.sem and one.quality > 0)
    return better or one.scores.index < other.scores.index


def choose(frames: list[Candidate], rule: OnlineRule, first: int, last: int) -> int:
    """Which of a window's frames is taken; the earliest where several are as good."""
    quality = np.array([each.quality for each in frames])
    sem = np.array([each.scores.sem for each in frames])
    if rule == "gate":
        return _largest(np.where(quality >= GATE * quality.max(), sem, -1.0), quality)
    values = usefulness(as_good_as(quality, quality.max()), sem, sem.max())
    if rule == "middle":
        index = np.array([each.scores.index for each in frames])
        half = max(1e-9, (last - first) / 2)
        values = values * (2 - abs(index - (first + last) / 2) / half)
    return _largest(values, quality)


def _largest(first: np.ndarray, then: np.ndarray) -> int:
    """The place of the largest; of several, the one whose second value is the largest, then the earliest."""
    return int(np.argmax(np.where(first == first.max(), then, -np.inf)))


def as_good_as(quality: np.ndarray, best: float) -> np.ndarray:
    """How good frames are beside a good one, 0..1: all from 0.8 of the best quality on are as good as it."""
    return np.minimum(1.0, quality / (GATE * best)) if best > 0 else np.zeros_like(quality)


def usefulness(good: np.ndarray, sem: np.ndarray, most: float) -> np.ndarray:
    """Good * (0.25 + sem / most); the second term is 0 where no frame shows any of the target."""
    return good * (BASE + (sem / most if most > 0 else np.zeros_like(sem)))


def select(
    scores: Iterable[FrameScores], options: Options | None = None, due: Callable[[FrameScores], bool] | None = None
) -> list[Keyframe]:
    """The keyframes of a whole sequence: what the selector gives frame by frame."""
    selector = Selector(options, due)
    keyframes = [keyframe for each in scores for keyframe in selector.add(each)]
    return [*keyframes, *selector.finish()]
