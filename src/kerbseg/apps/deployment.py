"""A trained bundle on this machine's processor: as files, in int8, and timed by turns; what cannot be is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import RenderableType
from rich.table import Table

from kerbseg.apps.profile import picture
from kerbseg.apps.timing import RuntimeOptions, Timing, time_models
from kerbseg.bundle import Bundle, load
from kerbseg.core.errors import UserError
from kerbseg.core.types import Dataset
from kerbseg.export import Int8Report, Parity, export, export_int8, pictures_of
from kerbseg.export.int8_report import render
from kerbseg.runtime.exported import all_threads

Found = TypeVar("Found")
Skipped = str  # why something was not measured, and what to do about it
Say = Callable[[RenderableType], None]

REFERENCE = "torch-eager"  # what the others are compared with
MAX_DROP = 0.01  # mIoU that int8 may lose


@dataclass(frozen=True)
class Effort:
    """How much is looked at: enough to see the point in a minute, not to publish."""

    parity: int = 4  # pictures that a file and torch are compared on
    calibration: int = 48  # pictures for int8
    eval_set: int = 30  # pictures that int8 is judged on
    runs: int = 30  # of each engine


@dataclass(frozen=True)
class Engine:
    """What runs the trained network."""

    name: str
    does: str  # for a reader
    model: Path
    runtime: str | None = None  # the one that fits the file


@dataclass(frozen=True)
class Timed:
    """An engine's time for one picture, from its pixels to its class ids."""

    engine: Engine
    timing: Timing | Skipped
    ratio: float | None = None  # how many times as fast as the reference

    @property
    def rate(self) -> float | None:
        """Pictures a second."""
        return None if isinstance(self.timing, str) else 1e3 / self.timing.call.median_ms


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
        """The engine that takes least time, where there is one to compare it with."""
        compared = [row for row in self.times if row.ratio is not None]
        return max(compared, key=lambda row: row.ratio or 0.0, default=None)


def deploy(
    bundle: Path, folder: Path, calibration: Dataset, eval_set: Dataset, say: Say, effort: Effort | None = None
) -> Deployment:
    """Exports a bundle into a folder at its own size, quantises it, and times every engine in a process of its own."""
    effort, source, threads = effort or Effort(), load(bundle), all_threads()
    size = source.card.input_size
    graph, int8_graph, onnx = (folder / name for name in ("m.xml", "m_int8.xml", "m.onnx"))
    say(f"[bold]4. The export[/], at {size[0]}x{size[1]} (HxW), beside torch on {count(effort.parity, 'picture')}")
    files = exported(source, [graph, onnx], eval_set, effort, say)
    say(f"[bold]5. In int8[/], calibrated on {count(min(effort.calibration, len(calibration)), 'picture')}")
    int8 = unless_impossible(partial(quantized, source, int8_graph, calibration, eval_set, effort, threads))
    say(int8 if isinstance(int8, str) else render(int8))
    say(f"[bold]6. The time it takes[/]: each engine in its own process, {count(effort.runs, 'run')} by turns")
    engines = [
        Engine(REFERENCE, "torch, as it comes", bundle, REFERENCE),
        Engine("torch", "torch, channels last", bundle, "torch"),
        Engine("onnx", "ONNX Runtime", onnx),
        Engine("openvino", "OpenVINO", graph),
        Engine("openvino int8", "OpenVINO in int8", int8_graph),
    ]
    failures = {path: found for path, found in {**files, int8_graph: int8}.items() if isinstance(found, str)}
    times = by_turns(engines, failures, size, threads, effort.runs)
    deployment = Deployment(size, threads, files, int8_graph, int8, times)
    say(as_table(deployment))
    return deployment


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
    """The file in int8, all of it: putting back into float what loses most takes minutes; the verdict tells."""
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


def unless_impossible(measure: Callable[[], Found]) -> Found | Skipped:
    """What it gives, or why this machine cannot do it: a package that is not installed, most often."""
    try:
        return measure()
    except UserError as error:
        return f"not measured: {error}"


def by_turns(
    engines: list[Engine], failures: Mapping[Path, Skipped], size: tuple[int, int], threads: int, runs: int
) -> list[Timed]:
    """Every engine whose file is there, on the same drawn street; the others with the reason."""
    ready = [engine for engine in engines if engine.model not in failures]
    setups = [RuntimeOptions(engine.runtime, threads=threads) for engine in ready]
    timings = time_models([str(engine.model) for engine in ready], setups, [picture(size)] * len(ready), runs)
    found = {engine.name: timing for engine, timing in zip(ready, timings, strict=True)}
    reference = found[REFERENCE].call.median_ms
    return [
        Timed(engine, found[engine.name], reference / found[engine.name].call.median_ms)
        if engine.name in found
        else Timed(engine, failures[engine.model])
        for engine in engines
    ]


def as_table(deployment: Deployment) -> Table:
    """Latency engine by engine, for a terminal."""
    table = Table(
        "engine",
        "median (ms)",
        "p95 (ms)",
        "pictures/s",
        f"x {REFERENCE}",
        title="picture to class ids at {}x{} (HxW)".format(*deployment.size),
        caption=f"{count(deployment.threads, 'thread')}, batch 1, each engine in its own process, by turns",
        min_width=70,
    )
    for row in deployment.times:
        if isinstance(row.timing, str):
            table.add_row(row.engine.name, row.timing)
            continue
        call = row.timing.call
        table.add_row(
            row.engine.name, f"{call.median_ms:.1f}", f"{call.p95_ms:.1f}", f"{row.rate:.1f}", f"{row.ratio:.2f}"
        )
    return table


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
