"""Whether int8 is worth it: the network before and after, on the same pictures and by turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from kerbseg.bundle import Bundle
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.evaluate import Report, check_classes, evaluate
from kerbseg.export.files import engine_of, install
from kerbseg.export.int8 import CALIBRATION_PICTURES, Quantized, Quantizer
from kerbseg.profiling.latency import Budget, Latency, interleaved, timed
from kerbseg.profiling.machine import Machine, this_machine
from kerbseg.runtime import Runtime, open_runtime
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.engines import size_bytes

if TYPE_CHECKING:
    from rich.table import Table

MAX_DROP = 0.01
MAX_LOGITS_DROP = 0.001  # of mIoU, for logits of a byte each
TIMING = Budget(seconds=10, runs=100)  # of both networks together, of each


@dataclass(frozen=True)
class Measurement:
    """A network before or after quantization."""

    report: Report  # of the split it was judged on
    latency: Latency  # from uint8 picture to ids, batch 1
    size_bytes: int  # of its files


@dataclass(frozen=True)
class LogitsReport:
    """Whether the logits of an int8 network are of a byte each, and what that costs against logits in float."""

    used: bool
    miou_drop: float  # mIoU of the int8 network with float logits, less that with uint8 logits


@dataclass(frozen=True)
class Int8Report:
    """Whether int8 is worth it: what it costs in mIoU, what it gains, and what stayed in float."""

    before: Measurement
    after: Measurement
    in_float: Sequence[str]  # convolutions that are not computed in int8
    computing: int  # all of them
    max_drop: float | None  # none where there are no labels that say what is lost
    restored: bool  # some were put back into float to stay within the limit
    calibration: int  # pictures
    threads: int
    machine: Machine = field(default_factory=this_machine)  # that the latencies were taken on
    logits: LogitsReport | None = None  # none where uint8 logits were not tried

    @property
    def miou_drop(self) -> float:
        """mIoU before, less mIoU after."""
        return self.before.report.metrics.miou - self.after.report.metrics.miou

    @property
    def obstacles(self) -> list[str]:
        """Why not to use it; empty means go."""
        obstacles = []
        if self.max_drop is not None and self.miou_drop > self.max_drop:
            obstacles.append(f"it loses {self.miou_drop:.4f} mIoU, more than {self.max_drop}")
        if self.after.latency.median_ms >= self.before.latency.median_ms:
            obstacles.append(f"it is no faster ({self.after.latency.median_ms:.1f} ms)")
        return obstacles

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg export --json` writes it."""
        sides = {
            name: {
                "miou": side.report.metrics.miou,
                "class_iou": dict(side.report.metrics.class_iou),
                "latency_ms": side.latency.to_dict(),
                "size_bytes": side.size_bytes,
            }
            for name, side in (("float32", self.before), ("int8", self.after))
        }
        return {
            **sides,
            "verdict": "no-go" if self.obstacles else "go",
            "obstacles": self.obstacles,
            "in_float": list(self.in_float),
            "convolutions": self.computing,
            "restored_to_float": self.restored,
            "uint8_logits": None if self.logits is None else asdict(self.logits),
            "protocol": {
                **self.after.report.protocol,
                **self.machine.to_dict(),
                "max_drop": self.max_drop,
                "calibration_pictures": self.calibration,
                "threads": self.threads,
                "latency": "uint8 picture to ids, batch 1, both by turns",
            },
        }


def export_int8(
    bundle: Bundle,
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    calibration: Dataset,
    calibration_pictures: int = CALIBRATION_PICTURES,
    eval_set: Dataset,
    max_drop: float | None = MAX_DROP,
    limit: int | None = None,
    threads: int | None = None,
    float_logits: bool = False,
) -> Int8Report:
    """Writes a bundle in int8 as .onnx (QDQ) or .xml, and says whether that is worth it.

    Calibrated on at most `calibration_pictures` of one split, judged on the first `limit` pictures of another, through
    the runtime that will run it. What loses most goes back to float until at most `max_drop` of mIoU is lost; None sets
    no limit. Logits are of a byte each where that costs at most `MAX_LOGITS_DROP` of mIoU more and breaks no limit, and
    the engine gains by it; `float_logits` leaves them in float.
    Raises as `export`, and BundleError where the data has other classes.
    """
    path, size = Path(path), size or bundle.card.input_size
    engine = engine_of(path)
    check_classes(open_runtime(bundle), eval_set)
    quantizer = Quantizer.of_bundle(bundle, engine, size, calibration, calibration_pictures)
    with TemporaryDirectory() as folder:
        plain, made = Path(folder) / f"float{engine.suffix}", Path(folder) / path.name
        judged = partial(_evaluated, quantizer, eval_set=eval_set, limit=limit, threads=threads)
        engine.writer()(bundle, plain, size, False)
        before = evaluate(open_runtime(plain, threads=threads), eval_set, limit=limit)
        quantized, restored = quantizer.quantize_all(), False
        after, logits = judged(quantized, made), None
        if max_drop is not None and before.metrics.miou - after.metrics.miou > max_drop:
            quantized, restored = quantizer.quantize_within(max_drop, eval_set, limit), True
            after = judged(quantized, made)
        if not float_logits and (in_uint8 := quantizer.with_uint8_logits(quantized)) is not quantized:
            beside = Path(folder) / f"uint8{engine.suffix}"
            report = judged(in_uint8, beside)
            logits = _chosen(before, after, report, max_drop)
            if logits.used:
                made, after = beside, report
        runtimes = [open_runtime(file, threads=threads) for file in (plain, made)]
        latencies = interleaved([timed(_one(runtime, size)) for runtime in runtimes], TIMING)
        float32, int8 = (
            Measurement(report, latency, size_bytes(file))
            for report, latency, file in zip((before, after), latencies, (plain, made), strict=True)
        )
        install(made, path)
    return Int8Report(
        before=float32,
        after=int8,
        in_float=quantized.in_float,
        computing=quantized.computing,
        max_drop=max_drop,
        restored=restored,
        calibration=quantizer.pictures,
        threads=checked_threads(threads),
        logits=logits,
    )


def _chosen(before: Report, in_float: Report, in_uint8: Report, max_drop: float | None) -> LogitsReport:
    """Whether uint8 logits cost little enough, and leave the network within the limit where float ones do."""
    drop = in_float.metrics.miou - in_uint8.metrics.miou
    within = [max_drop is None or before.metrics.miou - each.metrics.miou <= max_drop for each in (in_float, in_uint8)]
    return LogitsReport(drop <= MAX_LOGITS_DROP and within[1] >= within[0], drop)


def _evaluated(
    quantizer: Quantizer, quantized: Quantized, made: Path, eval_set: Dataset, limit: int | None, threads: int | None
) -> Report:
    quantizer.save(quantized, made)
    return evaluate(open_runtime(made, threads=threads), eval_set, limit=limit)


def _one(runtime: Runtime, size: tuple[int, int]) -> Callable[[], object]:
    picture = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    return lambda: runtime(picture)


def render(report: Int8Report) -> Table:
    """Before and after side by side, for a terminal."""
    from rich.table import Table

    how, before, after = report.after.report.protocol, report.before, report.after
    table = Table(
        "figure",
        "float32",
        "int8",
        "change",
        title=f"{how['model']} on {how['data']} {how['split']}: {counted(report.after.report.images, 'picture')}",
        caption=f"{how['runtime']}, {counted(report.threads, 'thread')}, batch 1, {before.latency.runs}"
        f" and {after.latency.runs} runs by turns;"
        f" calibrated on {counted(report.calibration, 'picture')}\n{report.machine}",
        min_width=60,
    )
    for name, one, other in [
        ("mIoU", before.report.metrics.miou, after.report.metrics.miou),
        *(
            (name, value, after.report.metrics.class_iou[name])
            for name, value in before.report.metrics.class_iou.items()
        ),
    ]:
        change = "" if one is None or other is None else f"{other - one:+.4f}"
        table.add_row(name, *("absent" if value is None else f"{value:.4f}" for value in (one, other)), change)
    table.add_section()
    for name, one, other, form in [
        ("latency, median (ms)", before.latency.median_ms, after.latency.median_ms, ".2f"),
        ("latency, p95 (ms)", before.latency.p95_ms, after.latency.p95_ms, ".2f"),
        ("size (kB)", before.size_bytes / 1e3, after.size_bytes / 1e3, ".0f"),
    ]:
        table.add_row(name, f"{one:{form}}", f"{other:{form}}", f"x {other / one:.2f}")
    table.add_section()
    in_float = f"{len(report.in_float)} of {report.computing}"
    table.add_row("convolutions in float", f"{report.computing} of {report.computing}", in_float, "")
    if report.logits is not None:
        drop = report.logits.miou_drop
        kept = "uint8" if report.logits.used else f"float32 (uint8 would lose {drop:.4f} more)"
        table.add_row("logits", "float32", kept, f"{-drop:+.4f} mIoU" if report.logits.used else "")
    unlimited = "" if report.max_drop is not None else "; what it loses in mIoU was not limited"
    verdict = ("no-go: " + "; ".join(report.obstacles) if report.obstacles else "go") + unlimited
    table.add_row("verdict", "", verdict, "", style="bold")
    return table
