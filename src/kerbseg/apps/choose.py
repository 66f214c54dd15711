"""Which network and engine are quick enough here, and how accurate they are known to be; measured within a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from kerbseg.apps.info import figures
from kerbseg.apps.ways import Way
from kerbseg.bundle import locate, read_card, shipped
from kerbseg.core.errors import KerbsegError
from kerbseg.core.limits import network_pixels
from kerbseg.export.graph import SMALLEST
from kerbseg.profiling.latency import Latency, Skipped
from kerbseg.profiling.machine import Machine
from kerbseg.runtime.checks import checked_threads
from kerbseg.tables import printed_accuracies

MARGIN = 0.2  # of the time of a picture stays free for camera, disk and all that happens besides
# over torch on one thread, until some are measured here: benchmarks/results/cpu.json, two threads
SPEED_UP, FILE_SPEED_UP, INT8_SPEED_UP = 1.5, 4.0, 8.0
# of each thread, and of a network over another by their MACs: no engine there is quicker than 6 times torch on as many,
# and dense convolutions take a third of the time of depthwise ones
MOST_SPEED_UP = 25.0
ROUGH_SHARE = 0.5  # of the time, for the first look
MAKING_INT8 = 2.0  # an int8 file takes so many times as long to make, and waits until it is so much nearer to the rate
MINUTES = (0.25, 600.0)  # from, to
MOST_FPS = 10_000.0


@dataclass(frozen=True)
class Wish:
    """What the network has to do."""

    fps: float  # pictures a second
    size: tuple[int, int]  # height, width
    threads: int | None = None  # all without it
    classes: int = 19
    minutes: float = 5.0  # that measuring may take

    def __post_init__(self) -> None:
        if not 0 < self.fps <= MOST_FPS:  # nor is NaN
            raise KerbsegError(f"fps is {self.fps:g}; give pictures a second, above 0 and at most {MOST_FPS:g}")
        if not MINUTES[0] <= self.minutes <= MINUTES[1]:
            raise KerbsegError("minutes is {:g}; measuring takes {:g} to {:g}".format(self.minutes, *MINUTES))
        if not 2 <= self.classes <= 255:
            raise KerbsegError(f"classes is {self.classes}; give 2 to 255")
        if min(self.size) < SMALLEST:
            raise KerbsegError(
                "size {}x{} (HxW) is too small to export; give at least {s}x{s}".format(*self.size, s=SMALLEST)
            )
        try:
            network_pixels(self.size)
        except ValueError as error:
            raise KerbsegError(f"size {error}") from error
        checked_threads(self.threads)

    @property
    def limit_ms(self) -> float:
        """Of one picture."""
        return 1e3 / self.fps


@dataclass(frozen=True)
class Known:
    """An accuracy that somebody measured, and where."""

    miou: float
    data: str
    split: str
    size: tuple[int, int] | None  # of the network's pictures; None where that is not said
    source: str  # 'paper erfnet, table 2', or 'ours, weights NAME'

    @property
    def on(self) -> str:
        """What accuracies must share to be compared."""
        return f"{self.data} {self.split}"

    def __str__(self) -> str:
        size = "" if self.size is None else " at {}x{}".format(*self.size)
        return f"{self.miou:.3f} on {self.on}{size} ({self.source})"

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg choose --json` writes it."""
        return {**vars(self), "size": None if self.size is None else list(self.size)}


@dataclass(frozen=True)
class Tried:
    """One network on one engine: its time here, or why there is none."""

    network: str
    way: Way
    latency: Latency | Skipped
    expected_ms: float | None = None  # rough, by torch's time and other networks on this engine
    known: tuple[Known, ...] = ()

    def free(self, limit_ms: float) -> float | None:
        """Share of a picture's time that is left over; below 0 where it is too slow; None where not measured."""
        return None if isinstance(self.latency, Skipped) else 1 - self.latency.median_ms / limit_ms

    def verdict(self, limit_ms: float) -> str:
        """Whether it reaches the rate: yes (with the margin), barely, no, or not measured."""
        free = self.free(limit_ms)
        return "not measured" if free is None else "yes" if free >= MARGIN else "barely" if free >= 0 else "no"

    def accuracy(self, on: str) -> Known | None:
        """Its accuracy on some data; None where it is unknown."""
        return next((each for each in self.known if each.on == on), None)


class Bench(Protocol):
    """What measures; its clock and its processes are its own."""

    def left_s(self) -> float:
        """Seconds until all has to end."""

    def torch_ms(self, network: str) -> float:
        """A rough time of a picture in torch on one thread. Raises KerbsegError where that cannot be had."""

    def latency(self, network: str, way: Way) -> Latency:
        """Of a picture, from pixels to class ids. Raises KerbsegError for what fails, or is not done in time."""

    def machine(self) -> Machine:
        """Where it was measured."""


@dataclass(frozen=True)
class Choice:
    """All that was tried, the best first."""

    wish: Wish
    rows: tuple[Tried, ...]
    left_out: Mapping[str, str]  # network or engine: the reason why it was not tried at all
    on: str | None  # the data that accuracies are compared on
    machine: Machine
    load: float
    elapsed_s: float

    @property
    def best(self) -> Tried | None:
        """The first that reaches the rate, else the quickest; None where nothing was measured."""
        return next((row for row in self.rows if isinstance(row.latency, Latency)), None)

    @property
    def reached(self) -> bool:
        """Whether the best one reaches the rate."""
        return self.best is not None and self.best.verdict(self.wish.limit_ms) in ("yes", "barely")

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg choose --json` writes it; what was not measured is null, with the reason."""
        wish = self.wish
        return {
            "fps": wish.fps,
            "margin": MARGIN,
            "accuracy_on": self.on,
            "best": None if self.best is None else {"network": self.best.network, "engine": self.best.way.name},
            "reached": self.reached,
            "rows": [_row(row, wish.limit_ms) for row in self.rows],
            "left_out": dict(self.left_out),
            "protocol": {
                "size": list(wish.size),
                "threads": checked_threads(wish.threads),
                "classes": wish.classes,
                "batch": 1,
                "latency": "uint8 picture to class ids of its size; each network and engine in a process of its own",
                "weights": "random, except those of files",
                "minutes": wish.minutes,
                "elapsed_s": round(self.elapsed_s, 1),
                "load": round(self.load, 2),
                **self.machine.to_dict(),
            },
        }


def _row(row: Tried, limit_ms: float) -> dict[str, Any]:
    measured = isinstance(row.latency, Latency)
    return {
        "network": row.network,
        "engine": row.way.name,
        "latency_ms": row.latency.to_dict() if isinstance(row.latency, Latency) else None,
        "fps": round(1e3 / row.latency.median_ms, 3) if isinstance(row.latency, Latency) else None,
        "reaches": row.verdict(limit_ms),
        "expected_ms": None if row.expected_ms is None else round(row.expected_ms, 2),
        "reason": None if measured else row.latency.reason if isinstance(row.latency, Skipped) else None,
        "accuracy": [each.to_dict() for each in row.known],
    }


def choose(
    wish: Wish,
    macs: Mapping[str, float],
    ways: Sequence[Way],
    bench: Bench,
    *,
    load: float = 0.0,
    known: Callable[[str, tuple[int, int]], Iterable[Known]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Measures networks (with their MACs) on engines until the time is over, and ranks them.

    First torch times each network roughly; then what is expected to be nearest to the wanted rate is measured first, as
    a decision hangs on that. Ranked are those that reach the rate with the margin, then those that barely do, by
    accuracy on the data that most networks share, unknown ones last; then the rest by time.
    """
    begun, known = bench.left_s(), known or known_accuracies
    left_out = {way.name: str(error) for way in ways if (error := way.missing()) is not None}
    ways = [way for way in ways if way.name not in left_out]
    rough = _rough(wish, macs, bench, begun * ROUGH_SHARE, left_out, say)
    tried = _measured(wish, rough, ways, bench, say)
    figures_of = {network: tuple(known(network, wish.size)) for network in rough}
    rows = [
        Tried(network, way, result, expected, figures_of[network])
        for (network, way), (result, expected) in tried.items()
    ]
    on = _shared(rows)
    rows.sort(key=lambda row: _rank(row, wish.limit_ms, on))
    return Choice(wish, tuple(rows), left_out, on, bench.machine(), load, begun - bench.left_s())


def _rough(
    wish: Wish,
    macs: Mapping[str, float],
    bench: Bench,
    time_s: float,
    left_out: dict[str, str],
    say: Callable[[str], None],
) -> dict[str, float]:
    """Torch's rough milliseconds of each network that may be quick enough; the others are left out with a reason.

    After `time_s` no other is looked at: the rest of the time is for what is measured.
    """
    reserved_s = bench.left_s() - time_s
    rough: dict[str, float] = {}
    for network in sorted(macs, key=lambda name: macs[name]):
        at_best_ms = min((rough[each] / macs[each] for each in rough), default=0.0) * macs[network]
        if at_best_ms > MOST_SPEED_UP * checked_threads(wish.threads) * wish.limit_ms:
            left_out[network] = f"not measured: its {macs[network] / 1e9:.1f} GMACs are far too many for this rate"
            continue
        if bench.left_s() <= reserved_s:
            left_out[network] = "not measured: the time was over"
            continue
        say(f"{network}: a first look, in torch")
        try:
            rough[network] = bench.torch_ms(network)
        except KerbsegError as error:
            left_out[network] = f"not measured: {error}"
    return rough


def _measured(
    wish: Wish, rough: Mapping[str, float], ways: Sequence[Way], bench: Bench, say: Callable[[str], None]
) -> dict[tuple[str, Way], tuple[Latency | Skipped, float]]:
    """Result and expectation of every network on every engine, nearest to the rate first."""
    waiting = [(network, way) for network in rough for way in ways]
    results: dict[tuple[str, Way], tuple[Latency | Skipped, float]] = {}
    pace = Pace()
    took_s: dict[str, float] = {}

    def urgency(job: tuple[str, Way]) -> float:
        network, way = job
        if not pace.ratios:  # what is made soonest tells how this machine compares to what is assumed
            return rough[network] * (MAKING_INT8 if way.int8 or way.runs_bundles else 1.0)
        far = abs(math.log(pace.expected_ms(rough[network], way) / wish.limit_ms))
        return far + (math.log(MAKING_INT8) if way.int8 else 0.0)

    while waiting:
        network, way = job = min(waiting, key=urgency)
        waiting.remove(job)
        expected_ms, left_s = pace.expected_ms(rough[network], way), bench.left_s()
        if left_s <= took_s.get(way.name, min(took_s.values(), default=0.0)):
            results[job] = Skipped("the time was over"), expected_ms
            continue
        say(f"{network} on {way.name}: about {expected_ms:.0f} ms expected, {left_s:.0f} s left")
        try:
            latency = bench.latency(network, way)
        except KerbsegError as error:
            results[job] = Skipped(str(error)), expected_ms
            continue
        took_s[way.name] = left_s - bench.left_s()
        pace.add(rough[network], way, latency.median_ms)
        results[job] = latency, expected_ms
    # what is not measured is expected by all that is
    return {
        job: (result, pace.expected_ms(rough[job[0]], job[1]) if isinstance(result, Skipped) else expected_ms)
        for job, (result, expected_ms) in results.items()
    }


class Pace:
    """How many times as fast as torch on one thread each engine is: as measured, and until then as usual."""

    def __init__(self) -> None:
        self.ratios: dict[str, list[float]] = {}
        self._over_usual: list[float] = []  # of files: torch beside other programs tells nothing of them

    def add(self, rough_ms: float, way: Way, ms: float) -> None:
        """Learns from a measurement."""
        self.ratios.setdefault(way.name, []).append(rough_ms / ms)
        if not way.runs_bundles:
            self._over_usual.append(rough_ms / ms / _usual(way))

    def expected_ms(self, rough_ms: float, way: Way) -> float:
        """Of a picture, by torch's rough time."""
        if way.name in self.ratios:
            return rough_ms / median(self.ratios[way.name])
        known = self._over_usual and not way.runs_bundles
        return rough_ms / (_usual(way) * (median(self._over_usual) if known else 1.0))


def _usual(way: Way) -> float:
    return INT8_SPEED_UP if way.int8 else SPEED_UP if way.runs_bundles else FILE_SPEED_UP


def _shared(rows: Sequence[Tried]) -> str | None:
    """The data that most of the networks have an accuracy on: figures of different data are never compared."""
    names = {row.network: {each.on for each in row.known} for row in rows if isinstance(row.latency, Latency)}
    counts = {on: sum(on in each for each in names.values()) for each in names.values() for on in each}
    return max(sorted(counts), key=lambda on: counts[on], default=None)


def _rank(row: Tried, limit_ms: float, on: str | None) -> tuple[Any, ...]:
    order = ("yes", "barely", "no", "not measured").index(row.verdict(limit_ms))
    if isinstance(row.latency, Skipped):
        return order, row.expected_ms
    if order >= 2:
        return order, row.latency.median_ms
    known = None if on is None else row.accuracy(on)
    # what int8 costs in accuracy is not known here, and so float comes first where both are quick enough
    return order, known is None, 0.0 if known is None else -known.miou, row.way.int8, row.latency.median_ms


def known_accuracies(network: str, size: tuple[int, int]) -> Iterator[Known]:
    """Accuracies of a registered network: on each data the paper's figure at the size nearest, then our weights'."""
    of_data: dict[tuple[str, str], list[Known]] = {}
    for each in printed_accuracies(network):
        one = Known(each.miou, each.data, each.split, each.size, each.source)
        of_data.setdefault((each.data, each.split), []).append(one)
    for several in of_data.values():
        yield min(several, key=lambda one: (_distance(one.size, size), -one.miou))
    for name in shipped():
        card = read_card(locate(name))
        if card.model == network:
            for score in figures(card):
                yield Known(score.miou, score.data, score.split, card.input_size, f"ours, weights {name}")


def _distance(one: tuple[int, int] | None, other: tuple[int, int]) -> float:
    """Of two sizes; the farthest where one is not said."""
    return math.inf if one is None else abs(math.log(math.prod(one) / math.prod(other)))
