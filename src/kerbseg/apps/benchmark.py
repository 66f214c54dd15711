"""One model on every engine that is installed: time, accuracy, bytes, and how far each agrees with torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import UInt8
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from kerbseg.apps.ways import Way, find_ways
from kerbseg.bundle import Bundle, find_model, load
from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.core.labels import label_set
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import check_classes, evaluate
from kerbseg.export import pictures_of
from kerbseg.export.files import COMPARED, install
from kerbseg.export.int8 import CALIBRATION_PICTURES
from kerbseg.profiling.latency import Budget, Skipped
from kerbseg.profiling.machine import Machine, busy, this_machine
from kerbseg.profiling.workers import Say, Timing, drawn_street, time_each
from kerbseg.runtime import Runtime, RuntimeOptions, open_runtime
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.engines import BUNDLE_SUFFIX, fitting, size_bytes, suffix_of

DRAWN = 48  # scenes that int8 is calibrated on where no data is named

Timer = Callable[
    [Sequence[str], Sequence[RuntimeOptions], UInt8[np.ndarray, "h w 3"], Budget | None], list[Timing | Skipped]
]


@dataclass(frozen=True)
class Row:
    """One engine: its figures, each or the reason why there is none."""

    way: str
    timing: Timing | Skipped
    miou: float | Skipped
    size_bytes: int | Skipped
    equal: float | Skipped  # share of class ids that are torch's
    failure: str | None = None  # why it does not run at all

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg benchmark --json` writes it; what was not measured is null."""
        timing = self.timing if isinstance(self.timing, Timing) else None
        return {
            "engine": self.way,
            "latency_ms": None if timing is None else timing.call.to_dict(),
            "fps": None if timing is None else round(1e3 / timing.call.median_ms, 3),
            "miou": _figure(self.miou),
            "size_bytes": _figure(self.size_bytes),
            "equal_to_torch": _figure(self.equal),
            "error": self.failure,
        }


@dataclass(frozen=True)
class Benchmark:
    """All engines of one model, and how they were measured."""

    model: str
    rows: tuple[Row, ...]
    missing: Mapping[str, str]  # engine: what is not installed, and the command that installs it
    protocol: Mapping[str, Any]
    machine: Machine
    load: float  # of the machine before it began

    @property
    def failed(self) -> bool:
        """Whether an engine that is installed did not run."""
        return any(row.failure is not None for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg benchmark --json` writes it."""
        return {
            "model": self.model,
            "engines": [row.to_dict() for row in self.rows],
            "not_installed": dict(self.missing),
            "protocol": {**self.protocol, **self.machine.to_dict(), "load": round(self.load, 2)},
        }


def benchmark(
    model: str | Path,
    *,
    formats: str = "all",
    size: tuple[int, int] | None = None,
    threads: int | None = None,
    data: Dataset | None = None,
    limit: int | None = None,
    calibration: Dataset | None = None,
    int8: bool = False,
    out: Path | None = None,
    budget: Budget | None = None,
    say: Say = lambda line: None,
    time_files: Timer = time_each,
) -> Benchmark:
    """Writes a model for every engine, and times and evaluates each; one that fails is a row with its reason.

    `model` is a bundle, a run's folder, shipped weights, a registered name (random weights), or an exported file, which
    its own engines run. mIoU is that of the first `limit` pictures of `data`, at `size` as the latency; without data it
    is not measured. int8 is calibrated on `calibration`, or on drawn streets. Files stay in `out`, if that is given.
    Raises KerbsegError for a model, a size or data that no engine could take.
    """
    load, budget = os.getloadavg()[0], budget or Budget()
    subject = _subject(model, size)
    ways = [way for way in find_ways(formats, int8) if subject.bundle is not None or way in subject.ways]
    if not ways:
        runs = " or ".join(way.name for way in subject.ways)
        raise KerbsegError(f"{model} runs on {runs}, not on {formats}; name one of them, or benchmark its bundle")
    if limit is not None and limit < 1:
        raise KerbsegError(f"limit is {limit}; give at least 1 picture, or leave it out")
    if data is not None:
        check_classes(open_runtime(subject.bundle or subject.path), data)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    options = RuntimeOptions(threads=checked_threads(threads))
    with TemporaryDirectory() as name:
        work = _Work(subject, Path(name), out, options, data, limit, calibration, say)
        missing = {way.name: str(error) for way in ways if (error := way.missing()) is not None}
        made = [work.made(way) for way in ways if way.name not in missing]
        missing |= {one.way.name: one.reason for one in made if one.lacking}
        made = [one for one in made if not one.lacking]
        ready = [one for one in made if not one.reason]
        say(f"timing {', '.join(one.way.name for one in ready)}: {budget}")
        engines = [replace(options, engine=one.way.engine.name) for one in ready]
        timings = time_files([str(one.path) for one in ready], engines, drawn_street(subject.size), budget)
    times = {one.way.name: timing for one, timing in zip(ready, timings, strict=True)}
    return Benchmark(
        model=str(model),
        rows=tuple(_row(one, times.get(one.way.name)) for one in made),
        missing=missing,
        protocol={
            "size": list(subject.size),
            "threads": options.threads,
            "batch": 1,
            "latency": "uint8 picture to class ids of its size, each engine in its own process, by turns",
            "data": None if data is None else data.name,
            "split": None if data is None else data.split,
            "pictures": None if data is None else min(limit or len(data), len(data)),
            "calibration": work.calibrated_on if any(one.way.int8 for one in made) else None,
            "compared_on": f"{counted(work.shown, 'picture')} of {work.compared.name} {work.compared.split}",
            "weights": "random" if subject.random else "of the file",
        },
        machine=_machine(timings),
        load=load,
    )


@dataclass(frozen=True)
class _Subject:
    """The model as it is asked for: a bundle, which every engine can have, or a file with its engines."""

    bundle: Bundle | None
    path: Path  # of an exported file; else what a bundle's files are called after
    size: tuple[int, int]
    random: bool
    ways: Sequence[Way]  # that run an exported file as it is


def _subject(model: str | Path, size: tuple[int, int] | None) -> _Subject:
    source = find_model(model, label_set("cityscapes"))
    if isinstance(source, Path) and source.suffix != BUNDLE_SUFFIX:
        runtime = open_runtime(source)
        own = runtime.size or runtime.card.input_size
        if size not in (None, own):
            raise KerbsegError(
                "{} takes pictures of {}x{} (HxW) only, not of {}x{}; export it for that size".format(
                    source, *own, *(size or ())
                )
            )
        engines = fitting(suffix_of(source)).values()
        return _Subject(None, source, own, False, [Way(engine, runtime.precision == "int8") for engine in engines])
    bundle = source if isinstance(source, Bundle) else load(source)
    size = size or bundle.card.input_size
    # torch is asked for the same pictures as the files, which take one size only
    bundle = replace(bundle, card=replace(bundle.card, input_size=size))
    path = Path(f"{model}{BUNDLE_SUFFIX}") if isinstance(source, Bundle) else source
    return _Subject(bundle, path, size, isinstance(source, Bundle), [])


@dataclass(frozen=True)
class _Made:
    """A way's file and its figures so far; with a reason where it is not there, and whether a package is missing."""

    way: Way
    path: Path
    size_bytes: int | Skipped
    equal: float | Skipped
    miou: float | Skipped
    reason: str = ""
    lacking: bool = False


class _Work:
    """Writes, compares and evaluates one way after the other, in this process."""

    def __init__(
        self,
        subject: _Subject,
        folder: Path,
        out: Path | None,
        options: RuntimeOptions,
        data: Dataset | None,
        limit: int | None,
        calibration: Dataset | None,
        say: Say,
    ) -> None:
        self._subject, self._folder, self._out, self._options = subject, folder, out, options
        self._data, self._limit, self._say = data, limit, say
        self._calibration = calibration or Scenes("train", DRAWN, subject.size)
        self.compared: Dataset = data or Scenes("val", size=subject.size)
        self._pictures = [] if subject.bundle is None else pictures_of(self.compared, subject.size, COMPARED)
        self._reference: Sequence[UInt8[np.ndarray, "1 h w"]] = []

    @property
    def shown(self) -> int:
        """Pictures on which class ids are compared."""
        return len(self._pictures)

    @property
    def calibrated_on(self) -> str:
        """The pictures of int8, in words."""
        count = min(CALIBRATION_PICTURES, len(self._calibration))
        return f"{counted(count, 'picture')} of {self._calibration.name} {self._calibration.split}"

    def made(self, way: Way) -> _Made:
        """What became of one way. An engine may fail in ways of its own: then the others go on."""
        path = self._folder / way.file_name(self._subject.path.stem)
        try:
            return self._measured(way, path)
        except MissingExtra as error:
            return _without(way, path, str(error), lacking=True)
        except (KerbsegError, RuntimeError, OSError) as error:
            return _without(way, path, str(KerbsegError(str(error) or type(error).__name__)))

    def _measured(self, way: Way, path: Path) -> _Made:
        bundle = self._subject.bundle
        if bundle is None:
            path = self._subject.path
        else:
            self._say(f"writing {path.name} for {way.name}")
            way.write(bundle, path, self._subject.size, self._calibration, CALIBRATION_PICTURES)
        runtime = open_runtime(path, replace(self._options, engine=way.engine.name))
        equal = self._equal(runtime)
        miou: float | Skipped = Skipped("needs --data")
        if self._data is not None:
            self._say(f"evaluating {way.name} on {self._data.name} {self._data.split}")
            miou = evaluate(runtime, self._data, limit=self._limit).metrics.miou
        made = _Made(way, path, size_bytes(path), equal, miou)
        if self._out is not None and bundle is not None and not way.runs_bundles:
            install(path, self._out / path.name)
        return made

    def _equal(self, runtime: Runtime) -> float | Skipped:
        if self._subject.bundle is None:
            return Skipped("needs the bundle that the file was exported from")
        if not self._reference:
            torch = open_runtime(self._subject.bundle, self._options)
            self._reference = [torch(picture[None]) for picture in self._pictures]
        pairs = zip(self._pictures, self._reference, strict=True)
        return float(np.mean([(runtime(picture[None]) == ids).mean() for picture, ids in pairs]))


def _without(way: Way, path: Path, reason: str, lacking: bool = False) -> _Made:
    skipped = Skipped(reason)
    return _Made(way, path, skipped, skipped, skipped, reason, lacking)


def _row(made: _Made, timing: Timing | Skipped | None) -> Row:
    timing = Skipped(made.reason) if timing is None else timing
    failure = timing.reason if isinstance(timing, Skipped) else None
    return Row(made.way.name, timing, made.miou, made.size_bytes, made.equal, failure)


def _machine(timings: Sequence[Timing | Skipped]) -> Machine:
    """The machine with the versions of all engines that were timed: each process loads its own alone."""
    machine = this_machine()
    versions: dict[str, str] = {}
    for timing in timings:
        if isinstance(timing, Timing):
            machine, versions = timing.facts.machine, versions | dict(timing.facts.machine.versions)
    return replace(machine, versions=versions or machine.versions)


def _figure(value: float | Skipped) -> float | None:
    return None if isinstance(value, Skipped) else value


def render(result: Benchmark) -> RenderableType:
    """A line an engine, within 80 characters; below it what failed, what is not installed, and how it was measured."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("engine", no_wrap=True)
    for head in ("ms", "p95", "per s", "mIoU", "MB", "as torch"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in result.rows:
        if row.failure is not None:
            table.add_row(row.way, "failed")
            continue
        assert isinstance(row.timing, Timing)
        call = row.timing.call
        table.add_row(
            row.way,
            f"{call.median_ms:.2f}",
            f"{call.p95_ms:.2f}",
            f"{1e3 / call.median_ms:.1f}",
            _cell(row.miou, "{:.4f}"),
            "?" if isinstance(row.size_bytes, Skipped) else f"{row.size_bytes / 1e6:.2f}",
            _cell(row.equal, "{:.4%}"),
        )
    return Group(table, *_notes(result))


def _notes(result: Benchmark) -> list[str]:
    how = result.protocol
    size = "x".join(map(str, how["size"]))
    threads = f"{counted(how['threads'], 'thread')}"
    lines = [f"{row.way} failed: {row.failure}" for row in result.rows if row.failure is not None]
    lines += [f"{name}: {text}" for name, text in result.missing.items()]
    lines.append(f"ms: median of one picture of {size} (HxW), pixels to class ids; {threads}; weights {how['weights']}")
    if how["data"] is None:
        lines.append("mIoU: not measured; give --data NAME")
    else:
        lines.append(f"mIoU: {counted(how['pictures'], 'picture')} of {how['data']} {how['split']}")
    if any(not isinstance(row.equal, Skipped) for row in result.rows):
        lines.append(f"as torch: share of equal class ids, on {how['compared_on']}")
    if how["calibration"] is not None:
        lines.append(f"int8: calibrated on {how['calibration']}")
    lines.append(str(result.machine))
    if (warning := busy(result.load, "the benchmark began")) is not None:
        lines.append(warning)
    return lines


def _cell(value: float | Skipped, form: str) -> str:
    return "not measured" if isinstance(value, Skipped) else form.format(value)
