"""How milliseconds and memory grow with pixels, classes, pictures at once and threads; and a 100-megapixel picture.

One process for each point, so that its peak memory is its own; its figures are kept in a file as soon as they are
there, and a point that is there is not measured again. All points take some minutes:
    python benchmarks/growth.py --json growth.json
    python benchmarks/growth.py --json growth.json --only pixels,classes
    python benchmarks/growth.py --json growth.json --only-read --page docs/growth.md --plot docs/images/growth.svg
Networks have random weights, which cost what trained ones do but in the last stage: `call` with its interpolation and
argmax depends on how many pixels lie at borders between classes, and is shown beside `network`, the part before it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

NETWORKS = ("mininet_v2_cpu", "erfnet")
ENGINES = ("openvino", "torch")
SIZES = ((240, 432), (384, 672), (544, 960), (768, 1344), (1088, 1920), (1536, 2688), (2160, 3840))  # 0.1 MP to 4K
USUAL = (544, 960)  # height, width where something else than pixels grows
SMALL = (240, 432)
CLASSES = (2, 5, 11, 19, 40, 80, 150)
USUAL_CLASSES = 19
BATCHES = (1, 2, 4, 8)
LARGE = (10_000, 10_000)  # 100 megapixels
TILE, OVERLAP = (1088, 1920), 128
SERIES = ("pixels", "classes", "batch", "threads", "large")
SECONDS, FEWEST, MOST = 1.5, 3, 30  # of timing a point: as long, but at least and at most so many runs
MB = 2**20
KB = 2**10


@dataclass(frozen=True)
class Point:
    """What is measured in one process."""

    series: str
    network: str
    engine: str
    size: tuple[int, int] = USUAL  # height, width
    classes: int = USUAL_CLASSES
    batch: int = 1
    threads: int | None = None  # all
    tiles: bool = False  # the large picture, by tiles of `size`

    @property
    def name(self) -> str:
        """Its key in the file of figures."""
        parts = (self.series, self.network, self.engine, f"{self.size[0]}x{self.size[1]}", f"{self.classes} classes")
        return ", ".join([*parts, f"batch {self.batch}", f"{self.threads or 'all'} threads"])


def points(cores: int) -> Iterator[Point]:
    """All of them, cheap ones first within a series."""
    for network in NETWORKS:
        for engine in ENGINES:
            yield from (Point("pixels", network, engine, size) for size in SIZES)
        yield from (Point("classes", network, "openvino", classes=classes) for classes in CLASSES)
        yield from (Point("batch", network, "openvino", SMALL, batch=batch) for batch in BATCHES)
        counts = sorted({1, 2, cores} & set(range(1, cores + 1)))
        yield from (Point("threads", network, engine, threads=count) for engine in ENGINES for count in counts)
    yield Point("large", NETWORKS[0], "openvino", TILE, tiles=True)


def measure(point: Point, file: str) -> dict[str, Any]:
    """Milliseconds of the whole call and of the network alone, medians; memory before the network and at its peak."""
    from kerbseg.runtime import open_runtime

    pictures = drawn(point)
    before_mb = peak_mb()
    runtime = open_runtime(file, threads=point.threads)
    if point.tiles:
        return {**large(runtime, point), "before_mb": before_mb, "peak_mb": peak_mb()}
    for _ in range(2):  # the first call is numpy's
        runtime(pictures)
    peak = peak_mb()  # of one call after another, without what timing keeps
    forward = runtime.forward_only(pictures)
    seconds = {"call": [], "network": []}
    begun = time.perf_counter()
    while len(seconds["call"]) < FEWEST or (time.perf_counter() - begun < SECONDS and len(seconds["call"]) < MOST):
        for name, run in (("call", lambda: runtime(pictures)), ("network", forward)):
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    medians = {f"{name}_ms": 1e3 * median(each) for name, each in seconds.items()}
    return {**medians, "runs": len(seconds["call"]), "before_mb": before_mb, "peak_mb": peak}


def large(runtime: Any, point: Point) -> dict[str, Any]:
    """Seconds of 100 megapixels by tiles."""
    from kerbseg.predict.tiles import segment_tiles

    picture = np.resize(drawn(point)[0], (LARGE[0], *point.size[1:], 3))[:, : point.size[1]]
    picture = np.ascontiguousarray(np.tile(picture, (1, -(-LARGE[1] // point.size[1]), 1))[:, : LARGE[1]])
    started = time.perf_counter()
    ids = segment_tiles(runtime, picture, overlap=OVERLAP)
    return {"call_ms": 1e3 * (time.perf_counter() - started), "runs": 1, "megapixels": ids.size / 1e6}


def drawn(point: Point) -> np.ndarray:
    """Pictures of a drawn street, uint8 [b h w 3]."""
    from kerbseg.data.scenes import drive

    picture, _ = next(iter(drive(0, SMALL)))
    rows, columns = (np.arange(side) * own // side for side, own in zip(point.size, SMALL, strict=True))
    return np.repeat(picture[None, rows][:, :, columns], point.batch, 0)


def peak_mb() -> float:
    """The largest memory that this process has had so far."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return own / MB if sys.platform == "darwin" else own / KB


def prepare(point: Point, folder: Path) -> str:
    """The file that a point's process opens."""
    from kerbseg.bundle import random_bundle, save
    from kerbseg.core.labels import LabelSet
    from kerbseg.runtime import ENGINES as KNOWN

    names = tuple(f"class_{index}" for index in range(point.classes))
    labels = LabelSet("growth", names, tuple((index, index, index) for index in range(point.classes)))
    bundle = random_bundle(point.network, labels, seed=0)
    if point.engine == "torch":
        path = folder / f"{point.network}_{point.classes}.safetensors"
        save(bundle, path)
        return str(path)
    path = folder / f"{point.network}_{point.classes}_{point.size[0]}x{point.size[1]}.xml"
    if not path.exists():
        card = replace(bundle.card, input_size=point.size)
        KNOWN["openvino"].writer()(replace(bundle, card=card), path, point.size)
    return str(path)


def in_process(point: Point, file: str) -> dict[str, Any]:
    """The figures of a point, from a process of its own."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point)), "--file", file]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["it was ended"])[-1]
        return {"not_measured": f"{reason} (status {finished.returncode})"}
    figures: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return figures


def run(wanted: Sequence[Point], path: Path) -> dict[str, Any]:
    """Measures what is not in the file yet; writes the file after each point."""
    from kerbseg.core.files import atomic_write
    from kerbseg.profiling.machine import this_machine

    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"points": {}}
    with tempfile.TemporaryDirectory() as folder:
        for point in wanted:
            if point.name in known["points"]:
                continue
            figures = in_process(point, prepare(point, Path(folder)))
            known["points"][point.name] = {**asdict(point), **figures}
            known["protocol"] = this_machine().to_dict()
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(known, indent=1) + "\n")
            print(line(known["points"][point.name]), flush=True)
    return known


def line(row: dict[str, Any]) -> str:
    """A point of the table: Markdown."""
    height, width = LARGE if row["tiles"] else row["size"]
    what = [row["network"], row["engine"], f"{height}x{width}", row["classes"], row["batch"], row["threads"] or "all"]
    if "not_measured" in row:
        return f"| {' | '.join(map(str, what))} | not measured: {row['not_measured']} | | |"
    network = f"{row['network_ms']:.1f}" if "network_ms" in row else "-"
    return f"| {' | '.join(map(str, what))} | {row['call_ms']:.1f} | {network} | {row['peak_mb']:.0f} |"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The points of a series: Markdown."""
    head = "| network | engine | HxW | classes | pictures | threads | call, ms | network, ms | peak, MB |"
    return "\n".join([head, "|---|---|--:|--:|--:|--:|--:|--:|--:|", *map(line, rows)])


def growth(rows: Sequence[dict[str, Any]], of: str) -> str:
    """How a figure grows from the first point to the last: in words, beside what it would be if it were linear."""
    from math import log

    first, last = rows[0], rows[-1]
    grown = _amount(last) / _amount(first)
    times = last[of] / first[of]
    return f"{grown:.0f} times as many: {times:.1f} times (power {log(times) / log(grown):.2f})"


def _amount(row: dict[str, Any]) -> float:
    """What grows in a series."""
    amounts = {"pixels": row["size"][0] * row["size"][1] / 1e6, "classes": row["classes"], "batch": row["batch"]}
    return float(amounts.get(row["series"], row["threads"] or 0))


def plot(known: dict[str, Any], path: Path) -> None:
    """Milliseconds and memory against what grows, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 3)
    titles = {"pixels": "megapixels", "classes": "classes", "batch": "pictures at once"}
    for column, (series, title) in enumerate(titles.items()):
        for (network, engine), rows in grouped(known, series).items():
            rows = [row for row in rows if "call_ms" in row]
            amounts = [_amount(row) for row in rows]
            color = f"C{2 * NETWORKS.index(network) + ENGINES.index(engine)}"
            label = f"{network}, {engine}"
            axes[0, column].loglog(amounts, [row["call_ms"] for row in rows], "o-", color=color, label=label)
            axes[0, column].loglog(amounts, [row["network_ms"] for row in rows], ":", color=color)
            axes[1, column].loglog(amounts, [row["peak_mb"] for row in rows], "o-", color=color)
        axes[1, column].set_xlabel(title)
        for axis in axes[:, column]:
            axis.grid(True, which="both", alpha=0.25)
            if grouped(known, series):
                ticks = sorted({_amount(row) for rows in grouped(known, series).values() for row in rows})
                axis.set_xticks(ticks, [f"{tick:.1f}" if series == "pixels" else f"{tick:.0f}" for tick in ticks])
                axis.minorticks_off()
    axes[0, 0].set_ylabel("ms of a call (dotted: network alone)")
    axes[1, 0].set_ylabel("peak memory, MB")
    axes[0, 0].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def grouped(known: dict[str, Any], series: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The points of a series by network and engine."""
    by: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in known["points"].values():
        if row["series"] == series:
            by.setdefault((row["network"], row["engine"]), []).append(row)
    return by


BEGIN, END = "<!-- figures: made by benchmarks/growth.py -->", "<!-- end of figures -->"


def figures(known: dict[str, Any]) -> str:
    """The part of the page that is made of figures: Markdown."""
    parts = []
    for series in SERIES:
        groups = grouped(known, series)
        rows = [row for group in groups.values() for row in group]
        if rows:
            parts += [f"### {series.capitalize()}", "", table(rows), ""]
        for (network, engine), group in groups.items() if series in ("pixels", "classes", "batch") else ():
            measured = [row for row in group if "call_ms" in row]
            if len(measured) > 1:
                ms, peak = growth(measured, "call_ms"), growth(measured, "peak_mb")
                parts += [f"- {network}, {engine}: {ms} the milliseconds; memory: {peak}"]
        parts += [""]
    protocol = known.get("protocol", {})
    numbers = ", ".join(f"{name} {number}" for name, number in protocol.get("versions", {}).items())
    where = f"{protocol.get('processor')}, {protocol.get('cores')} cores; {numbers}; {protocol.get('date')}"
    return "\n".join([*parts, f"Measured on {where}; float32, random weights."])


def write_page(known: dict[str, Any], page: Path) -> None:
    """Puts the figures between the two marks of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{page} lacks the marks for figures: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{figures(known)}\n\n{END}{after}")


def main() -> None:
    """Measures, prints the tables, and writes the plot and the page's figures where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("growth.json"), help="figures; those there are kept")
    parser.add_argument("--only", default=",".join(SERIES), help=f"series, separated by commas: {', '.join(SERIES)}")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--most-megapixels", type=float, default=1e3, help="leave out points with more")
    parser.add_argument("--only-read", action="store_true", help="measure nothing")
    parser.add_argument("--plot", type=Path, help="picture to write (.svg, .png)")
    parser.add_argument("--page", type=Path, help="page whose figures to write anew")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point is not None:
        point = Point(**json.loads(given.point))
        print(json.dumps(measure(replace(point, size=tuple(point.size)), given.file)))
        return
    if given.only_read:
        known = json.loads(given.json.read_text())
    else:
        from kerbseg.runtime.checks import all_threads

        chosen = [
            point
            for point in points(all_threads())
            if point.series in given.only.split(",")
            and point.network in given.networks.split(",")
            and point.size[0] * point.size[1] <= 1e6 * given.most_megapixels
        ]
        known = run(chosen, given.json)
    print(figures(known))
    if given.plot is not None:
        plot(known, given.plot)
    if given.page is not None:
        write_page(known, given.page)


if __name__ == "__main__":
    main()
