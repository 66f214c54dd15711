"""The tables of `kerbseg evaluate`, for a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kerbseg.core.text import counted
from kerbseg.evaluate import Report
from kerbseg.metrics.calibration import BINS, Reliability
from kerbseg.metrics.corruptions import CorruptionScores

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.measure import Measurement
    from rich.table import Table


@dataclass(frozen=True)
class _Bar:
    """A share as a bar, in characters that the terminal has."""

    share: float | None
    width: int = 20

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[str]:
        full = round(self.width * min(self.share or 0.0, 1.0))
        yield (("#" if options.ascii_only else "█") * full).ljust(self.width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(self.width, self.width)


def render_table(report: Report) -> Table:
    """IoU class by class, for a terminal of 80 columns."""
    from rich.table import Table

    metrics, how = report.metrics, report.protocol
    size = how["label_size"] if isinstance(how["label_size"], str) else "x".join(map(str, how["label_size"]))
    table = Table(
        "class",
        "IoU",
        "",
        title=f"{how['model']} on {how['data']} {how['split']}: {counted(report.images, 'picture')}",
        min_width=66,  # lest title and caption are broken into many lines
        caption=f"labels at {size} (HxW), TTA {how['tta']}, {how['runtime']} {how['precision']} on {how['device']},"
        f" {report.elapsed_s:.0f} s",
    )
    for name, value in metrics.class_iou.items():
        table.add_row(name, _figure(value), _Bar(value))
    table.add_section()
    table.add_row("mIoU", _figure(metrics.miou), style="bold")
    if metrics.category_miou is not None:
        table.add_row("category mIoU", _figure(metrics.category_miou))
    table.add_row("pixel accuracy", _figure(metrics.pixel_accuracy))
    table.add_row("mean class accuracy", _figure(metrics.mean_accuracy))
    if report.reliability is not None:
        table.add_section()
        _add_reliability(table, report.reliability)
    if report.risk is not None:
        table.add_row("AURC", _figure(report.risk.aurc), f"{report.risk.measure}; risk {report.risk.risk:.4f}")
    if report.kept is not None:
        table.add_section()
        at = f"{report.kept.measure} from {report.kept.unknown:g} on"
        table.add_row("coverage", _figure(report.kept.coverage), at)
        table.add_row("mIoU of what is kept", _figure(report.kept.metrics.miou))
    if report.details is not None:
        table.add_section()
        table.add_row("boundary mIoU", _figure(report.details.boundary_miou))
        for distance, value in report.details.trimap_miou.items():
            table.add_row(f"mIoU at most {distance} px from a border", _figure(value))
        table.add_row("mIoU farther away", _figure(report.details.interior_miou))
        for kind, figures in report.details.size_iou.items():
            table.add_row(f"mean IoU of {figures.regions} {kind} region(s)", _figure(figures.iou))
    if report.drives is not None:
        table.add_section()
        for name, subset in report.drives.items():
            table.add_row(f"mIoU of {name or 'no drive'}: {subset.images} picture(s)", _figure(subset.metrics.miou))
    return table


def render_corruptions(scores: CorruptionScores) -> Table:
    """mIoU under each corruption and what is kept of the clean one, for a terminal of 80 columns."""
    from rich.table import Table

    table = Table(
        "corruption",
        "mIoU",
        "kept",
        "",
        title=f"Corrupted pictures, severity {scores.severity} of 5",
        min_width=66,
        caption=f"kept: share of the clean mIoU; {scores.package}",
    )
    table.add_row("none", _figure(scores.clean), _figure(1.0 if scores.kept is not None else None), _Bar(1.0))
    table.add_section()
    for name, value in scores.miou.items():
        share = scores.share[name]
        table.add_row(name, _figure(value), _figure(share), _Bar(share))
    table.add_section()
    table.add_row("mean", "", _figure(scores.kept), style="bold")
    return table


def _add_reliability(table: Table, reliability: Reliability) -> None:
    """Rows of how far confidence can be believed; the last column has the figure without the temperature."""
    calibration, without = reliability.calibration, reliability.uncalibrated
    rows = {
        f"ECE, {BINS} bins": "ece",
        f"adaptive ECE, {BINS} bins": "adaptive_ece",
        "Brier score": "brier",
    }
    for name, key in rows.items():
        before = "" if without is None else f"{getattr(without, key):.4f} at temperature 1"
        table.add_row(name, _figure(getattr(calibration, key)), before)
    temperature = "none" if reliability.temperature is None else f"{reliability.temperature:.4g}"
    table.add_row("temperature", temperature, "")


def _figure(value: float | None) -> str:
    return "absent" if value is None or math.isnan(value) else f"{value:.4f}"
