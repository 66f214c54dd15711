"""Counts and times of a service, as Prometheus reads them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

COUNTERS = {
    "requests_total": "Requests by address and status of the answer",
    "pictures_total": "Pictures that were segmented, by model",
    "calls_total": "Calls of the network; pictures by calls is the mean batch",
    "dropped_total": "Pictures that were not segmented: the queue was full, they waited too long, who asked had left,"
    " a newer frame came",
    "bad_total": "Pictures that could not be read or segmented",
}
HISTOGRAM = "request_seconds"
HISTOGRAM_HELP = "Seconds from a request's head to the end of its answer"
GAUGES = {"queue_pictures": "Pictures that wait now", "queue_limit": "Pictures that may wait"}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Safe from any number of threads; each combination of labels is a line, so labels have few values."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[Labels, int]] = {name: {} for name in COUNTERS}
        self._times: dict[Labels, tuple[list[int], float]] = {}  # of each bucket and beyond the last; the sum
        self._lock = threading.Lock()

    def count(self, name: str, number: int = 1, **labels: str) -> None:
        """Adds to a counter of `COUNTERS`."""
        key = tuple(labels.items())
        with self._lock:
            self._counts[name][key] = self._counts[name].get(key, 0) + number

    def observe(self, seconds: float, **labels: str) -> None:
        """Adds the time of a request."""
        key = tuple(labels.items())
        with self._lock:
            counts, total = self._times.get(key, ([0] * (len(BUCKETS_S) + 1), 0.0))
            counts[bisect_left(BUCKETS_S, seconds)] += 1
            self._times[key] = counts, total + seconds

    def total(self, name: str, **labels: str) -> int:
        """A counter, over all lines that have these labels."""
        with self._lock:
            return sum(number for key, number in self._counts[name].items() if labels.items() <= dict(key).items())

    def text(self, gauges: Mapping[str, float]) -> str:
        """All lines, with those of `GAUGES` as they are now."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        for name, text in COUNTERS.items():
            yield from _head(name, "counter", text)
            for key, number in self._counts[name].items():
                yield f"kerbseg_{name}{_shown(key)} {number}"
        for name, text in GAUGES.items():
            yield from _head(name, "gauge", text)
            yield f"kerbseg_{name} {gauges[name]:g}"
        yield from _head(HISTOGRAM, "histogram", HISTOGRAM_HELP)
        for key, (counts, total) in self._times.items():
            below = 0
            for bound, number in zip((*map(str, BUCKETS_S), "+Inf"), counts, strict=True):
                below += number
                yield f"kerbseg_{HISTOGRAM}_bucket{_shown((*key, ('le', bound)))} {below}"
            yield f"kerbseg_{HISTOGRAM}_sum{_shown(key)} {total:.6f}"
            yield f"kerbseg_{HISTOGRAM}_count{_shown(key)} {below}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP kerbseg_{name} {text}"
    yield f"# TYPE kerbseg_{name} {kind}"


def _shown(labels: Labels) -> str:
    """Labels in braces, with what would end a value escaped."""
    escaped = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    pairs = [f'{key}="{value.translate(escaped)}"' for key, value in labels]
    return f"{{{','.join(pairs)}}}" if pairs else ""
