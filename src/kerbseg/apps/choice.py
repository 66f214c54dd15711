"""A choice of network and engine for a terminal, and the commands that train and export the best one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from kerbseg.apps.choose import MARGIN, Choice, Known, Tried
from kerbseg.core.text import counted
from kerbseg.profiling.latency import Latency, Skipped
from kerbseg.profiling.machine import busy
from kerbseg.runtime.checks import checked_threads

DRAWN = "smoke/scenes"  # the recipe that needs no data


def render(choice: Choice) -> RenderableType:
    """The ranking within 80 characters; below it what is known of each network, and how it was measured."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for head in ("ms", "per s"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"{choice.wish.fps:g}/s?", no_wrap=True)
    table.add_column("mIoU", no_wrap=True)
    for row in choice.rows:
        if isinstance(row.latency, Latency):
            call = row.latency
            known = None if choice.on is None else row.accuracy(choice.on)
            figures = (f"{call.median_ms:.1f}", f"{1e3 / call.median_ms:.1f}")
            accuracy = "unknown" if known is None else f"{known.miou:.3f}{_at(known)}"
            table.add_row(row.network, row.way.name, *figures, row.verdict(choice.wish.limit_ms), accuracy)
    return Group(*([table] if table.rows else []), *_notes(choice))


def _at(known: Known) -> str:
    return "" if known.size is None else " at {}x{}".format(*known.size)


def _notes(choice: Choice) -> Iterator[str]:
    wish, size = choice.wish, "{}x{}".format(*choice.wish.size)
    threads = checked_threads(wish.threads)
    yield ""
    yield f"ms: median of a picture of {size} (HxW) from pixels to class ids, {counted(threads, 'thread')}"
    yield (
        f"yes: {wish.fps:g} pictures a second with {MARGIN:.0%} of the time to spare"
        f" ({wish.limit_ms * (1 - MARGIN):.1f} ms at most); barely: {wish.limit_ms:.1f} ms at most"
    )
    if choice.on is not None:
        sources = {
            row.known[0].source for row in choice.rows if row.known and not row.known[0].source.startswith("paper")
        }
        whose = f"by {', '.join(sorted(sources))}" if sources else "as papers print it"
        yield f"mIoU: on {choice.on}, with the size of the network's pictures, {whose}; in float"
    if any(row.way.int8 for row in choice.rows):
        yield "int8: what it costs in mIoU was not measured"
    for network in _networks(row for row in choice.rows if isinstance(row.latency, Latency)):
        known = next(row.known for row in choice.rows if row.network == network)
        others = [str(each) for each in known if each.on != choice.on]
        if others:
            yield f"{network}: also {'; '.join(others)}"
    for reason, rows in _late(choice).items():
        yield f"not measured, {reason}:"
        yield from (f"  {_expected(network, rows)}" for network in _networks(rows))
    for name, reason in choice.left_out.items():
        yield f"{name}: {reason}"
    yield f"measured in {choice.elapsed_s:.0f} s, each network and engine in a process of its own"
    yield str(choice.machine)
    if (warning := busy(choice.load, "this began")) is not None:
        yield warning
    yield _verdict(choice)


def _late(choice: Choice) -> dict[str, list[Tried]]:
    """What was not measured, by the reason."""
    late: dict[str, list[Tried]] = {}
    for row in choice.rows:
        if isinstance(row.latency, Skipped):
            late.setdefault(row.latency.reason, []).append(row)
    return late


def _expected(network: str, rows: Sequence[Tried]) -> str:
    mine = [row for row in rows if row.network == network]
    times = sorted(row.expected_ms for row in mine if row.expected_ms is not None)
    span = " to ".join(dict.fromkeys(f"{each:.0f}" for each in (*times[:1], *times[-1:])))
    return f"{network} on {', '.join(row.way.name for row in mine)}{f', about {span} ms' if times else ''}"


def _networks(rows: Iterable[Tried]) -> list[str]:
    return list(dict.fromkeys(row.network for row in rows))


def _verdict(choice: Choice) -> str:
    best, wish = choice.best, choice.wish
    if best is None or not isinstance(best.latency, Latency):
        return "nothing was measured; give more time: --minutes"
    rate = f"{1e3 / best.latency.median_ms:.1f} pictures a second"
    if choice.reached:
        barely = best.verdict(wish.limit_ms) == "barely"
        spare = f", which leaves less than {MARGIN:.0%} of the time to spare" if barely else ""
        return f"best: {best.network} on {best.way.name}, {rate}{spare}"
    return (
        f"none reaches {wish.fps:g} pictures a second here; the quickest is {best.network} on {best.way.name}, {rate}."
        " Smaller pictures (--size) or more threads help"
    )


def commands(choice: Choice, data: str | None, model: str | None = None) -> list[list[str]]:
    """The command lines that train and export the best one; nothing where none was measured.

    Trained on the pictures in a folder, or on drawn streets without one; a `model` that is there is exported only.
    """
    best = choice.best
    if best is None:
        return []
    size, run = "{}x{}".format(*choice.wish.size), f"runs/{best.network}"
    bundle, lines = f"{run}/best.safetensors", []
    calibration = ["--calibration", "scenes"] if data is None else ["--calibration", "folder", "--data-root", data]
    if model is not None:
        bundle = model
    elif data is None:
        lines.append(["kerbseg", "train", DRAWN, f"model={{name: {best.network}}}", "--out", run])
    else:
        lines.append(["kerbseg", "train", "own", "--data", data, f"model.name={best.network}", "--out", run])
    if not best.way.runs_bundles:
        out = best.way.file_name(best.network if model is None else Path(model).stem)
        int8 = ["--int8", *calibration] if best.way.int8 else []
        lines.append(
            ["kerbseg", "export", bundle, "-o", out if model is not None else f"{run}/{out}", "--size", size, *int8]
        )
    return lines
