"""What `kerbseg evaluate` shows of text or not: its own figures, and MiniNet-v2's table VIII beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kerbseg.core.text import counted
from kerbseg.evaluate import Report
from kerbseg.metrics.text import SMALLEST_PX, TextFigures, TextReport, Threshold
from kerbseg.tables import find_table
from kerbseg.tables.schema import number_in

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

PAPER, NUMBER, COLUMN = "mininet", "8", "MIoU"


def render_text(report: Report) -> RenderableType:
    """Two tables of at most 80 columns. The report has its text."""
    from rich.console import Group

    assert report.text is not None
    return Group(_figures(report.text, report), _beside_the_paper(report.text, report))


def printed_and_ours(report: Report) -> Iterator[tuple[str, tuple[int, int], float, float | None]]:
    """Rows of table VIII: network, size (height, width), printed IoU of text, and ours where this report is of it.

    That is the network of the row at its size, on the whole of the public val split.
    """
    text, table = report.text, find_table(PAPER, NUMBER)
    assert text is not None
    place = next(index for index, column in enumerate(table.columns) if column.name == COLUMN)
    measured = text.whole and report.protocol["split"] == "val" and report.protocol["limit"] is None
    for row in table.rows:
        printed, size = number_in(row.printed[place]), row.size or table.size
        if row.model is None:
            size = (512, 512)  # DeepLabV3+
        same = row.model == report.protocol["model"] and size == text.stretched_size
        assert printed is not None
        yield row.name, size, float(printed / 100), text.stretched.iou if same and measured else None


def _figures(text: TextReport, report: Report) -> Table:
    from rich.table import Table

    how = report.protocol
    table = Table(
        "text",
        "own size",
        f"stretched to {_shown(text.stretched_size)}",
        title=f"text on {how['data'].partition(':')[0]} {how['split']}: {counted(report.images, 'picture')}",
        caption=(f"{text.labels}; " if text.labels else "") + f"{text.void_share:.2%} of the pixels void",
        min_width=66,
    )
    both = (text.own, text.stretched)
    table.add_row("IoU of text", *(_figure(each.iou) for each in both), style="bold")
    for name in ("precision", "recall"):
        table.add_row(name, *(_figure(getattr(each, name)) for each in both))
    table.add_row("mean IoU of both classes", *(_mean(each) for each in both))
    table.add_row("best threshold of p(text)", *map(_threshold, (text.threshold, text.stretched_threshold)))
    table.add_row("IoU of text there", *map(_threshold_iou, (text.threshold, text.stretched_threshold)))
    table.add_section()
    presence = text.presence
    table.add_row(f"pictures that show text (>= {SMALLEST_PX} px)", f"{presence.with_text} of {report.images}", "")
    table.add_row("  said to: precision", _figure(presence.precision), "")
    table.add_row("  said to: recall", _figure(presence.recall), "")
    if text.words is not None:
        table.add_section()
        for height, figures in text.words.items():
            table.add_row(f"words {height} high: {figures.words}", f"{_figure(figures.recall)} recognized", "")
    return table


def _beside_the_paper(text: TextReport, report: Report) -> Table:
    from rich.table import Table

    table = Table(
        "network",
        "input (HxW)",
        "printed",
        "ours",
        title="IoU of text in table VIII of MiniNet-v2's paper, which calls it MIoU",
        caption="Ours is of the public val split alone, all of it, stretched. The paper does not say which labels,"
        " split and other marks it took.",
        min_width=66,
    )
    for name, size, printed, ours in printed_and_ours(report):
        table.add_row(name, _shown(size), f"{printed:.4f}", "not measured" if ours is None else f"{ours:.4f}")
    return table


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _mean(figures: TextFigures) -> str:
    return _figure(figures.miou)


def _threshold(threshold: Threshold | None) -> str:
    return "not measured" if threshold is None else f"{threshold.value:.3f}"


def _threshold_iou(threshold: Threshold | None) -> str:
    return "not measured" if threshold is None else f"{threshold.iou:.4f}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
