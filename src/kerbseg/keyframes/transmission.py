"""Whether a frame is worth sending to other robots now, under a budget of bytes.

A token bucket bounds what is sent; a price, which rises with each frame sent and falls with each that is not, keeps
its tokens for frames that are worth more. Sending whatever fits would do harm: blurred and dark pictures make small
files, so that they fit first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from kerbseg.core.errors import InputError
from kerbseg.keyframes.motion import Thumbnail, likeness
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.selection import GATE, NOVELTY

FRAMES = 3  # largest pictures that the bucket holds
START, DEAREST, CHEAPEST = 0.3, 2.0, 0.02  # prices
RISE, FALL = 1.25, 0.97  # of the price, after a frame that was sent, and after one that was not
MEMORY = 0.995  # of the largest semantics, a frame
BASE = 0.1  # what a frame without any target counts; a keyframe of a window has to be one, a picture need not be sent
REMEMBERED = 50  # sent frames that a new one is compared with


class TokenBucket:
    """Bounds the bytes that are taken: in any stretch of L seconds at most capacity + rate * L.

    Without a capacity it is three times the largest picture seen so far. It is full at first.
    """

    def __init__(self, bytes_per_s: float, capacity: float | None = None) -> None:
        if not 0 < bytes_per_s < float("inf") or (capacity is not None and not capacity > 0):
            raise InputError(f"a budget of {bytes_per_s:g} bytes a second; it must be a number above 0")
        self._rate, self._fixed = bytes_per_s, capacity is not None
        self.capacity = capacity or 0.0
        self.tokens = self.capacity
        self._time_ns: int | None = None

    def look(self, time_ns: int, size: int) -> None:
        """Fills up to the time, having seen a picture of that size."""
        if not self._fixed and FRAMES * size > self.capacity:
            if self._time_ns is None:
                self.tokens = float(FRAMES * size)
            self.capacity = float(FRAMES * size)
        if self._time_ns is not None:
            elapsed_s = max(0, time_ns - self._time_ns) / 1e9  # a clock that goes back fills nothing
            self.tokens = min(self.capacity, self.tokens + self._rate * elapsed_s)
        self._time_ns = time_ns if self._time_ns is None else max(time_ns, self._time_ns)

    def take(self, size: int) -> bool:
        """Takes so many bytes if they are there."""
        if size > self.tokens:
            return False
        self.tokens -= size
        return True


@dataclass(frozen=True)
class Decision:
    """Whether a frame was sent, and why."""

    index: int
    time_ns: int
    sent: bool
    useful: float  # what it is worth
    price: float  # what a frame had to be worth
    size: int  # bytes
    tokens: float  # left after it


class Transmitter:
    """Decides frame by frame; deterministic, in constant time and memory."""

    def __init__(self, bytes_per_s: float, capacity: float | None = None) -> None:
        self.bucket = TokenBucket(bytes_per_s, capacity)
        self._price, self._most = START, 0.0
        self._sent: deque[Thumbnail] = deque(maxlen=REMEMBERED)

    def offer(self, scores: FrameScores, size: int) -> Decision:
        """The decision on the next frame, which would be `size` bytes."""
        self._most = max(scores.sem, self._most * MEMORY)
        known = max((likeness(scores.thumbnail, each) for each in self._sent), default=0.0)
        useful = min(1.0, scores.quality / GATE) * (BASE + (scores.sem / self._most if self._most > 0 else 0.0))
        useful *= 1 - max(0.0, min(1.0, known)) ** NOVELTY
        self.bucket.look(scores.time_ns, size)
        price = self._price
        sent = useful >= price and self.bucket.take(size)
        self._price = min(DEAREST, RISE * price) if sent else max(CHEAPEST, FALL * price)
        if sent:
            self._sent.append(scores.thumbnail)
        return Decision(scores.index, scores.time_ns, sent, useful, price, size, self.bucket.tokens)

    def offer_mask(self, size: int) -> bool:
        """Whether the class ids of a keyframe are sent: where the largest picture would still fit after them."""
        spare = self.bucket.tokens - self.bucket.capacity / FRAMES
        return size <= spare and self.bucket.take(size)


class Outbox:
    """The last pictures by index, for a receiver that has seen a record and asks for more."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._held: OrderedDict[int, bytes] = OrderedDict()

    def put(self, index: int, content: bytes) -> None:
        """Holds one more, and lets go of the oldest where there are too many."""
        self._held[index] = content
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def request(self, index: int) -> bytes | None:
        """The picture, or None where it is not held any more."""
        return self._held.get(index)
