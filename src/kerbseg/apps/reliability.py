"""How often a network is right where it is so and so sure, and what is left where it is sure, as SVGs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from kerbseg.core.files import atomic_write
from kerbseg.evaluate import Report
from kerbseg.metrics.calibration import BINS, Bin, Calibration, Reliability
from kerbseg.metrics.risk import RiskCoverage

SIDE, STRIP = 210, 44  # pixels: of a panel's square, and the height of the shares below it
LEFT, TOP, GAP = 54, 34, 24  # left of the square, above it, and between the shares and their words
PANEL = (LEFT + SIDE + 22, TOP + SIDE + GAP + STRIP + 36)  # width, height
INK, SOFT, PALE = "#22262b", "#6a7078", "#eef0f2"
RIGHT, TOO_SURE, TOO_UNSURE = "#3b6ea8", "#e2736b", "#a9c4e4"
TICKS = (0, 0.5, 1)


def diagram(reliability: Reliability) -> str:
    """One panel, or two where the card has a temperature: without it, and with it.

    A bar is the share of the pixels of a bin that is right. Red on it is how much surer the network was, pale is how
    much less sure. Below are the bins' shares of all pixels.
    """
    with_it = reliability.temperature
    panels = [(f"temperature {1 if with_it is None else with_it:.4g}", reliability.calibration)]
    if reliability.uncalibrated is not None:
        panels.insert(0, ("as it was trained", reliability.uncalibrated))
    width, height = PANEL[0] * len(panels), PANEL[1]
    words = "; ".join(f"{title}: ECE {calibration.ece:.4f}" for title, calibration in panels)
    drawn = "".join(
        f'<g transform="translate({PANEL[0] * place} 0)">{"".join(_panel(*panel))}</g>'
        for place, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Reliability diagram. {words}" width="{width}"'
        f' height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11"'
        f' fill="{INK}"><rect width="{width}" height="{height}" fill="#fff"/>{drawn}</svg>'
    )


def _panel(title: str, calibration: Calibration) -> Iterator[str]:
    bottom, strip = TOP + SIDE, TOP + SIDE + GAP
    yield f'<text x="{LEFT}" y="{TOP - 12}" font-size="12" font-weight="600">{title}: ECE {calibration.ece:.4f}</text>'
    yield f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="{PALE}"/>'
    most = max(each.share for each in calibration.bins)
    for each in calibration.bins:
        left = LEFT + SIDE * _place(each) / BINS
        low, high = sorted((each.accuracy, each.confidence))
        yield _bar(left, bottom, 0, each.accuracy, RIGHT)
        yield _bar(left, bottom, low, high, TOO_UNSURE if high == each.accuracy else TOO_SURE)
        yield _bar(left, strip + STRIP, 0, STRIP / SIDE * each.share / most, SOFT)
    yield (
        f'<path d="M{LEFT} {bottom}L{LEFT + SIDE} {TOP}" stroke="{INK}" stroke-dasharray="4 3"/>'
        f'<text transform="translate(14 {TOP + SIDE / 2:g}) rotate(-90)" text-anchor="middle">right</text>'
        f'<text x="{LEFT + SIDE / 2:g}" y="{bottom + 17}" text-anchor="middle">confidence</text>'
        f'<text x="{LEFT + SIDE / 2:g}" y="{strip + STRIP + 17}" text-anchor="middle">share of the pixels (highest'
        f" bar: {most:.0%})</text>"
    )
    for tick in TICKS:
        yield f'<text x="{LEFT - 6}" y="{bottom - SIDE * tick + 4:g}" text-anchor="end" fill="{SOFT}">{tick:.0%}</text>'
        if tick != 0.5:
            where = f'x="{LEFT + SIDE * tick:g}" y="{bottom + 17}" text-anchor="{"end" if tick else "start"}"'
            yield f'<text {where} fill="{SOFT}">{tick:.0%}</text>'


def _place(each: Bin) -> int:
    """Which of the bins it is."""
    return min(max(math.ceil(each.confidence * BINS) - 1, 0), BINS - 1)


def _bar(left: float, bottom: float, low: float, high: float, color: str) -> str:
    top, height = bottom - SIDE * high, SIDE * (high - low)
    return (
        f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" width="{SIDE / BINS - 1:.1f}" height="{height:.1f}" fill="{color}"/>'
    )


def risk_curve(risk: RiskCoverage) -> str:
    """The errors that are left where unsure pixels are left out, as an SVG: share that is wrong, by share that is kept.

    Pale is what a perfect order of the pixels would leave.
    """
    top = _round_up(max(each for _, each in risk.points))
    width, height = PANEL[0], TOP + SIDE + 36
    bottom = TOP + SIDE

    def at(coverage: float, value: float) -> str:
        return f"{LEFT + SIDE * coverage:.1f} {bottom - SIDE * min(value / top, 1):.1f}"

    curve = "L".join(at(*point) for point in risk.points)
    right = 1 - risk.risk  # up to this coverage a perfect order has no error
    perfect = [(right + (1 - right) * step / 20, (1 - right) * step / 20) for step in range(21)]
    best = "L".join([at(0, 0), *(at(coverage, wrong / coverage) for coverage, wrong in perfect if coverage)])
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{bottom - SIDE * tick + 4:g}" text-anchor="end" fill="{SOFT}">{top * tick:.1%}</text>'
        for tick in TICKS
    ) + "".join(
        f'<text x="{LEFT + SIDE * tick:g}" y="{bottom + 17}" text-anchor="{"end" if tick else "start"}" fill="{SOFT}">'
        f"{tick:.0%}</text>"
        for tick in (0, 1)
    )
    words = f"AURC {risk.aurc:.4f}, risk {risk.risk:.4f} of all pixels"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="Risk and coverage. {words}" width="{width}"'
        f' height="{height}" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="11"'
        f' fill="{INK}"><rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="{LEFT}" y="{TOP - 12}" font-size="12" font-weight="600">{risk.measure}: AURC {risk.aurc:.4f}</text>'
        f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="{PALE}"/>{ticks}'
        f'<path d="M{best}" fill="none" stroke="{TOO_UNSURE}" stroke-width="2"/>'
        f'<path d="M{curve}" fill="none" stroke="{RIGHT}" stroke-width="2"/>'
        f'<text transform="translate(14 {TOP + SIDE / 2:g}) rotate(-90)" text-anchor="middle">wrong</text>'
        f'<text x="{LEFT + SIDE / 2:g}" y="{bottom + 17}" text-anchor="middle">share that is kept</text></svg>'
    )


def save_confidence(report: Report, folder: Path) -> None:
    """Writes the reliability diagram and the risk-coverage curve into a folder, where they were measured."""
    pictures = {
        "reliability.svg": None if report.reliability is None else diagram(report.reliability),
        "risk_coverage.svg": None if report.risk is None else risk_curve(report.risk),
    }
    for name, picture in pictures.items():
        if picture is not None:
            with atomic_write(folder / name) as temporary:
                temporary.write_text(picture, encoding="utf-8")


def _round_up(value: float) -> float:
    """To the next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))
