"""A trained bundle on this machine's processor: as files, in int8, and timed by turns; what cannot be is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kerbseg.bundle import Bundle, load
from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.export import Int8Report, Parity, export, export_int8, pictures_of
from kerbseg.export.int8_report import render
from kerbseg.profiling.latency import Budget, Skipped
from kerbseg.profiling.workers import Timing, drawn_street, time_models
from kerbseg.runtime import ENGINES, RuntimeOptions
from kerbseg.runtime.checks import all_threads
from kerbseg.runtime.engines import BUNDLE_SUFFIX, exporting

Result = TypeVar("Result")
Say = Callable[[RenderableType], None]

REFERENCE = "torch-eager"  # what the others are compared with
LEFT_OUT = ("torch-compiled", "litert", "executorch", "ncnn")  # compiling takes longer than all the rest
INT8_SUFFIX = ".xml"  # of the file that is made in int8
MAX_DROP = 0.01  # mIoU that int8 may lose


@dataclass(frozen=True)
class Effort:
    """How much is looked at: enough to see the point in a minute, not to publish."""

    parity: int = 4  # pictures that a file and torch are compared on
    calibration: int = 48  # pictures for int8
    eval_set: int = 30  # pictures that int8 is evaluated on
    timing: Budget = field(default_factory=Budget)  # of all engines together


@dataclass(frozen=True)
class Candidate:
    """What runs the trained network."""

    name: str
    summary: str  # for a reader
    model: Path
    engine: str


@dataclass(frozen=True)
class Timed:
    """A candidate's time for one picture, from its pixels to its class ids."""

    candidate: Candidate
    timing: Timing | Skipped
    ratio: float | None = None  # how many times as fast as the reference

    @property
    def rate(self) -> float | None:
        """Pictures a second."""
        return 1e3 / self.timing.call.median_ms if isinstance(self.timing, Timing) else None


@dataclass(frozen=True)
class Deployment:
    """All that was made and measured."""

    size: tuple[int, int]  # of the pictures
    threads: int
    files: Mapping[Path, Parity | Skipped]
    int8_path: Path
    int8: Int8Report | Skipped
    times: list[Timed]

    @property
    def fastest(self) -> Timed | None:
        """The candidate that takes least time, where there is one to compare it with."""
        compared = [row for row in self.times if row.ratio is not None]
        return max(compared, key=lambda row: row.ratio or 0.0, default=None)

    @property
    def machines(self) -> list[str]:
        """Processor, versions and date of the times; one line where they are the same for all."""
        timings = [row.timing for row in self.times if isinstance(row.timing, Timing)]
        return list(dict.fromkeys(str(timing.facts.machine) for timing in timings))


def deploy(
    bundle: Path, folder: Path, calibration: Dataset, eval_set: Dataset, say: Say, effort: Effort | None = None
) -> Deployment:
    """Exports a bundle into a folder at its own size, quantizes it, and times every engine in a process of its own."""
    effort, source, threads = effort or Effort(), load(bundle), all_threads()
    size = source.card.input_size
    int8_path = folder / f"m_int8{INT8_SUFFIX}"
    say(
        heading("4. The export", f", at {size[0]}x{size[1]} (HxW), beside torch on {counted(effort.parity, 'picture')}")
    )
    files = exported(
        source,
        [folder / f"m{suffix}" for suffix, engine in exporting().items() if engine.name not in LEFT_OUT],
        eval_set,
        effort,
        say,
    )
    say(heading("5. In int8", f", calibrated on {counted(min(effort.calibration, len(calibration)), 'picture')}"))
    int8 = unless_impossible(partial(quantized, source, int8_path, calibration, eval_set, effort, threads))
    say(str(int8) if isinstance(int8, Skipped) else render(int8))
    say(heading("6. The time it takes", f": each engine in its own process, by turns, {effort.timing}"))
    failures = {path: made for path, made in {**files, int8_path: int8}.items() if isinstance(made, Skipped)}
    times = by_turns(list(candidates(bundle, folder, int8_path)), failures, size, threads, effort.timing)
    deployment = Deployment(size, threads, files, int8_path, int8, times)
    say(as_table(deployment))
    return deployment


def candidates(bundle: Path, folder: Path, int8_path: Path) -> Iterator[Candidate]:
    """All engines, the reference first, and the one that runs the file in int8 once more."""
    for name in sorted(ENGINES, key=lambda name: name != REFERENCE):
        engine = ENGINES[name]
        if name in LEFT_OUT or (engine.write is None and engine.suffix != BUNDLE_SUFFIX):
            continue
        model = bundle if engine.suffix == BUNDLE_SUFFIX else folder / f"m{engine.suffix}"
        yield Candidate(name, engine.summary or name, model, name)
    int8 = exporting()[INT8_SUFFIX]
    yield Candidate(f"{int8.name} int8", f"{int8.summary} in int8", int8_path, int8.name)


def exported(
    bundle: Bundle, paths: Sequence[Path], shown: Dataset, effort: Effort, say: Say
) -> dict[Path, Parity | Skipped]:
    """Each file, and how far it agrees with torch."""
    pictures = pictures_of(shown, bundle.card.input_size, effort.parity)
    files = {}
    for path in paths:
        files[path] = unless_impossible(partial(export, bundle, path, pictures=pictures))
        say(f"{path}: {files[path]}")
    return files


def quantized(
    bundle: Bundle, path: Path, calibration: Dataset, eval_set: Dataset, effort: Effort, threads: int
) -> Int8Report:
    """The file in int8, all of it: putting back into float what loses most takes minutes; the verdict says so."""
    report = export_int8(
        bundle,
        path,
        calibration=calibration,
        calibration_pictures=effort.calibration,
        eval_set=eval_set,
        limit=effort.eval_set,
        max_drop=1.0,
        threads=threads,
    )
    return replace(report, max_drop=MAX_DROP)


def unless_impossible(measure: Callable[[], Result]) -> Result | Skipped:
    """What it gives, or why this machine cannot do it: a package that is not installed, most often."""
    try:
        return measure()
    except KerbsegError as error:
        return Skipped(str(error))


def by_turns(
    candidates: Sequence[Candidate],
    failures: Mapping[Path, Skipped],
    size: tuple[int, int],
    threads: int,
    budget: Budget,
) -> list[Timed]:
    """Every candidate whose file is there, on the same drawn street; the others with the reason."""
    ready = [one for one in candidates if one.model not in failures]
    options = [RuntimeOptions(one.engine, threads=threads) for one in ready]
    timings = time_models([str(one.model) for one in ready], options, [drawn_street(size)] * len(ready), budget)
    by_name = {one.name: timing for one, timing in zip(ready, timings, strict=True)}
    reference_ms = by_name[REFERENCE].call.median_ms
    return [
        Timed(one, by_name[one.name], reference_ms / by_name[one.name].call.median_ms)
        if one.name in by_name
        else Timed(one, failures[one.model])
        for one in candidates
    ]


def as_table(deployment: Deployment) -> Table:
    """Latency engine by engine, for a terminal."""
    how = f"{counted(deployment.threads, 'thread')}, batch 1, each engine in its own process, by turns"
    table = Table(
        "engine",
        "median (ms)",
        "p95 (ms)",
        "runs",
        "pictures/s",
        f"x {REFERENCE}",
        title="picture to class ids at {}x{} (HxW)".format(*deployment.size),
        caption="\n".join([how, *deployment.machines]),
        min_width=70,
    )
    for row in deployment.times:
        if isinstance(row.timing, Skipped):
            table.add_row(row.candidate.name, str(row.timing))
            continue
        call = row.timing.call
        figures = (f"{call.median_ms:.1f}", f"{call.p95_ms:.1f}", str(call.runs), f"{row.rate:.1f}", f"{row.ratio:.2f}")
        table.add_row(row.candidate.name, *figures)
    return table


def heading(name: str, more: str = "") -> Text:
    """The line with which a part of the demo begins."""
    return Text.assemble((name, "bold"), more)
