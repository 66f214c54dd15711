"""A network of another house in int8: calibrated on pictures, judged by how many ids stay those of its float file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kerbseg.accelerate.files import (
    COMPARED,
    FLOOR,
    Accelerated,
    check_target,
    folder_of,
    labels_for,
    open_network,
    write_agreeing,
)
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import counted
from kerbseg.core.types import Preprocessing
from kerbseg.export import pictures_of
from kerbseg.export.files import engine_of, install
from kerbseg.export.int8 import CALIBRATION_PICTURES, Quantizer
from kerbseg.profiling.latency import Budget, Latency, interleaved, timed
from kerbseg.profiling.machine import Machine, this_machine
from kerbseg.runtime import open_runtime
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.engines import size_bytes

if TYPE_CHECKING:
    from rich.table import Table

JUDGED = 50  # pictures on which ids are compared, at most
TIMING = Budget(seconds=10, runs=100)  # of both files together, of each
QDQ_OPSET = 13  # of ONNX: the first in which each channel has a scale of its own


@dataclass(frozen=True)
class Int8Accelerated:
    """What int8 keeps of an accelerated network, and what it gains."""

    accelerated: Accelerated  # the float file against the untouched network
    equal: float  # share of pixels of the class that the float file gives
    judged: int  # pictures
    before: Latency  # of the float file, uint8 picture to ids
    after: Latency
    bytes_before: int
    bytes_after: int
    in_float: int  # convolutions that are not computed in int8
    computing: int  # all of them
    calibration: int  # pictures
    threads: int
    machine: Machine = field(default_factory=this_machine)

    @property
    def obstacles(self) -> list[str]:
        """Why not to use it; empty means go."""
        if self.after.median_ms < self.before.median_ms:
            return []
        return [f"it is no faster ({self.after.median_ms:.1f} ms)"]

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg accelerate --int8 --json` writes it."""
        return {
            **self.accelerated.to_dict(),
            "int8": {
                "equal": self.equal,
                "pictures": self.judged,
                "verdict": "no-go" if self.obstacles else "go",
                "obstacles": self.obstacles,
                "latency_ms": {"float32": self.before.to_dict(), "int8": self.after.to_dict()},
                "size_bytes": {"float32": self.bytes_before, "int8": self.bytes_after},
                "in_float": self.in_float,
                "convolutions": self.computing,
                "protocol": {
                    **self.machine.to_dict(),
                    "calibration_pictures": self.calibration,
                    "threads": self.threads,
                    "latency": "one of the pictures, uint8 to ids, batch 1, both by turns",
                },
            },
        }


def accelerate_int8(
    network: str | Path,
    path: str | Path,
    calibration: str | Path,
    *,
    classes: LabelSet | str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    size: tuple[int, int] | None = None,
    logits: str | None = None,
    floor: float = FLOOR,
    threads: int | None = None,
) -> Int8Accelerated:
    """As `accelerate`, in int8: calibrated on every second picture of a folder, judged on the others.

    The float file is compared with the untouched network first. Raises as `accelerate`, and DataError for a folder
    without pictures.
    """
    source, target = Path(network), Path(path)
    check_target(source, target)
    known = open_network(source, target, preprocessing, size, logits)
    if known.graph.input.batch != 1:
        raise KerbsegError(f"{source} takes {known.graph.input.batch} pictures at once; export it for one, for int8")
    if target.suffix == ".onnx" and known.graph.opset < QDQ_OPSET:
        raise KerbsegError(
            f"{source} is of opset {known.graph.opset}, and int8 files need {QDQ_OPSET}; export it again, or name an"
            " .xml file to write"
        )
    labels = labels_for(classes, known)
    if known.graph.precision == "int8":
        raise KerbsegError(f"{source} is in int8 already; leave --int8 out")
    shown, others = folder_of(calibration).halves(CALIBRATION_PICTURES)
    pictures = pictures_of(others, known.graph.input.size, JUDGED)
    with TemporaryDirectory() as folder:
        plain, made = Path(folder) / f"float{target.suffix}", Path(folder) / target.name
        known, before, result = write_agreeing(known, labels, plain, pictures[:COMPARED], floor, threads)
        quantizer = Quantizer(engine_of(target).graph()(), known.converted(), known.exported(labels), shown)
        quantized = quantizer.quantize_all()
        quantizer.save(quantized, made)
        after = open_runtime(made, threads=threads)
        equal = [float((before(one[None]) == after(one[None])).mean()) for one in pictures]
        latencies = interleaved([timed(partial(each, pictures[0][None])) for each in (before, after)], TIMING)
        report = Int8Accelerated(
            accelerated=result,
            equal=float(np.mean(equal)),
            judged=len(pictures),
            before=latencies[0],
            after=latencies[1],
            bytes_before=size_bytes(plain),
            bytes_after=size_bytes(made),
            in_float=len(quantized.in_float),
            computing=quantized.computing,
            calibration=quantizer.pictures,
            threads=checked_threads(threads),
        )
        install(made, target)
    return report


def render(report: Int8Accelerated) -> Table:
    """Before and after side by side, for a terminal."""
    from rich.table import Table

    before, after = report.before, report.after
    table = Table(
        "figure",
        "float32",
        "int8",
        title=f"{report.accelerated.network}, accelerated",
        caption=f"{counted(report.threads, 'thread')}, batch 1, {before.runs} and {after.runs} runs by turns;"
        f" calibrated on {counted(report.calibration, 'picture')}, judged on {report.judged} others\n{report.machine}",
        min_width=60,
    )
    table.add_row("ids as in the untouched file", f"{report.accelerated.equal:.4%}", "")
    table.add_row("ids as in the float file", "", f"{report.equal:.4%}")
    table.add_row("latency, median (ms)", f"{before.median_ms:.2f}", f"{after.median_ms:.2f}")
    table.add_row("latency, p95 (ms)", f"{before.p95_ms:.2f}", f"{after.p95_ms:.2f}")
    table.add_row("size (kB)", f"{report.bytes_before / 1e3:.0f}", f"{report.bytes_after / 1e3:.0f}")
    table.add_row("convolutions in float", f"{report.computing}", f"{report.in_float} of {report.computing}")
    table.add_section()
    verdict = "no-go: " + "; ".join(report.obstacles) if report.obstacles else "go"
    table.add_row("verdict", "", f"{verdict}; without labels what it loses is not known", style="bold")
    return table
