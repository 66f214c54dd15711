"""How milliseconds and memory grow with pixels, classes, pictures at once and threads; and a 100-megapixel picture.

One process for each point, so that its peak memory is its own; its figures are kept in a file as soon as they are
there, and a point that is there is not measured again. All points take some minutes:
    python benchmarks/growth.py --json growth.json
    python benchmarks/growth.py --json growth.json --only pixels,classes
    python benchmarks/growth.py --json growth.json --only-read --page docs/growth.md --plot docs/images/growth.svg
Networks have random weights, and batch-norm has seen a picture. They cost what trained ones do but in the last stage:
`call` with its interpolation and argmax depends on how many pixels lie at borders between classes, and is shown beside
`network`, the part before it.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from math import log
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
GROWING = {"pixels": "megapixels", "classes": "classes", "batch": "pictures at once"}  # what a plot shows
SERIES = ("pixels", "classes", "batch", "threads", "large")
FEW_CLASSES, FEW_BATCHES = (2, 19, 150), (1, 4)  # of the slower network
SECONDS, FEWEST, MOST = 1.5, 3, 30  # of timing a point: as long, but at least and at most so many runs
SLOW_S = 2.0  # a call that takes longer is timed once
STATUS = Path("/proc/self/status")
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
    counts = sorted({1, 2, cores} & set(range(1, cores + 1)))
    for network in NETWORKS:
        fast = network == NETWORKS[0]
        yield from (Point("pixels", network, "openvino", size) for size in SIZES)
        yield from (Point("pixels", network, "torch", size) for size in (SIZES if fast else SIZES[:-2]))
        yield from (Point("classes", network, "openvino", classes=each) for each in (CLASSES if fast else FEW_CLASSES))
        yield from (
            Point("batch", network, "openvino", SMALL, batch=each) for each in (BATCHES if fast else FEW_BATCHES)
        )
        yield from (Point("threads", network, engine, threads=count) for engine in ENGINES for count in counts)
    yield Point("large", NETWORKS[0], "openvino", TILE, tiles=True)


def measure(point: Point, file: str) -> dict[str, Any]:
    """Milliseconds of the whole call and of the network alone, medians; memory before the network and at its peak."""
    from kerbseg.runtime import open_runtime

    pictures = drawn(point)
    import_module("kerbseg.runtime.upsample_kernels")  # what a process loads at its second picture
    before_mb = peak_mb()
    runtime = open_runtime(file, threads=point.threads)
    if point.tiles:
        return {**large(runtime, point), "before_mb": before_mb, "peak_mb": peak_mb()}
    begun = time.perf_counter()
    runtime(pictures)
    fewest = 1 if time.perf_counter() - begun > SLOW_S else FEWEST
    if fewest > 1:
        runtime(pictures)
    peak = peak_mb()  # of one call after another, without what timing keeps
    forward = runtime.forward_only(pictures)
    seconds = {"call": [], "network": []}
    begun = time.perf_counter()
    while len(seconds["call"]) < fewest or (time.perf_counter() - begun < SECONDS and len(seconds["call"]) < MOST):
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
    """The largest memory that this process has had so far.

    Linux's `getrusage` also counts what the process that started it had then.
    """
    if STATUS.exists():
        return int(re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1]) / KB
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
    settle(bundle.model)
    if point.engine == "torch":
        path = folder / f"{point.network}_{point.classes}.safetensors"
        save(bundle, path)
        return str(path)
    path = folder / f"{point.network}_{point.classes}_{point.size[0]}x{point.size[1]}.xml"
    if not path.exists():
        card = replace(bundle.card, input_size=point.size)
        KNOWN["openvino"].writer()(replace(bundle, card=card), path, point.size)
    return str(path)


def settle(net: Any) -> None:
    """Gives batch-norm the statistics of a picture, as training does.

    Features of random weights otherwise shrink from layer to layer, down to numbers that processors are slow with.
    """
    import torch

    norms = [each for each in net.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.rand(2, 3, 128, 256, generator=torch.Generator().manual_seed(0)))
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    net.eval()


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


def growth(rows: Sequence[dict[str, Any]]) -> str:
    """How milliseconds and the network's own memory grow from the first point to the last; 1 is linear."""
    grown = _amount(rows[-1]) / _amount(rows[0])

    def power(of: Callable[[dict[str, Any]], float]) -> str:
        first, last = of(rows[0]), of(rows[-1])
        if min(first, last) <= 0:
            return "too little to tell"
        return f"{last / first:.1f} times (power {log(last / first) / log(grown):.2f})"

    ms, own = power(lambda row: row["call_ms"]), power(lambda row: row["peak_mb"] - row["before_mb"])
    return f"{grown:.0f} times as many: milliseconds {ms}, memory beyond that of the bare process {own}"


def _amount(row: dict[str, Any]) -> float:
    """What grows in a series."""
    amounts = {"pixels": row["size"][0] * row["size"][1] / 1e6, "classes": row["classes"], "batch": row["batch"]}
    return float(amounts.get(row["series"], row["threads"] or 0))


def plot(known: dict[str, Any], path: Path) -> None:
    """Milliseconds and memory against what grows, both axes logarithmic; a gray line is linear."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same file of the same figures
    shown = {series: title for series, title in GROWING.items() if grouped(known, series)}
    figure = Figure(figsize=(1 + 3.2 * len(shown), 6.4), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (series, title) in enumerate(shown.items()):
        ticks = set()
        for (network, engine), group in grouped(known, series).items():
            rows = [row for row in group if "call_ms" in row]
            amounts = [_amount(row) for row in rows]
            ticks |= {*amounts}
            color = f"C{2 * NETWORKS.index(network) + ENGINES.index(engine)}"
            label = f"{network}, {engine}" if column == 0 else None
            axes[0, column].loglog(amounts, [row["call_ms"] for row in rows], "o-", ms=4, color=color, label=label)
            axes[0, column].loglog(amounts, [row["network_ms"] for row in rows], ":", color=color)
            axes[1, column].loglog(amounts, [row["peak_mb"] for row in rows], "o-", ms=4, color=color)
        for axis in axes[:, column]:
            low, high = axis.get_ylim()
            begun = low * 1.1
            axis.loglog([min(ticks), max(ticks)], [begun, begun * max(ticks) / min(ticks)], color="0.8", zorder=0)
            axis.set_ylim(low, high)
            axis.set_xticks(
                sorted(ticks), [f"{each:.1f}" if series == "pixels" else f"{each:g}" for each in sorted(ticks)]
            )
            axis.minorticks_off()
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.grid(True, alpha=0.25)
        axes[1, column].set_xlabel(title)
    axes[0, 0].set_ylabel("ms of a call (dotted: network alone)")
    axes[1, 0].set_ylabel("peak memory, MB")
    figure.legend(loc="outside upper center", ncols=2 * len(shown), fontsize="small")
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
        if not groups:
            continue
        parts += [f"### {series.capitalize()}", "", table([row for group in groups.values() for row in group]), ""]
        for (network, engine), group in groups.items():
            measured = [row for row in group if "call_ms" in row]
            if len(measured) > 1 and series in GROWING:
                parts.append(f"- {network}, {engine}: {growth(measured)}")
        if series in GROWING:
            parts.append("")
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
