"""Which network, measured: the main networks of all families side by side, for docs/which-network.md.

Each is exported to OpenVINO int8 for one size and timed by turns with all others, two ways: the network alone, and the
whole call from uint8 picture to ids. Each has 19 classes and saw some drawn scenes first, so that its classes meet
where a street's do; none is trained. Accuracies are not measured here: those of papers stand in `kerbseg.tables`, those
of our weights in benchmarks/results/zoo.json. With `--work` exported files are kept. `--page` alone writes the page's
tables from the results, and measures nothing:
    python benchmarks/which_network.py --json benchmarks/results/which_network.json --work build/which
    python benchmarks/which_network.py --page docs/which-network.md
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kerbnet import LABELS, in_int8, instructions, kept, parsed, wide_by_high
from marked import between

from kerbseg.bundle import Bundle, random_bundle
from kerbseg.models import card, create_model
from kerbseg.profiling.cost import cost
from kerbseg.profiling.latency import Budget, interleaved
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import drawn_street, of_model, worker
from kerbseg.runtime import RuntimeOptions, open_runtime
from kerbseg.tables import PrintedAccuracy, printed_accuracies

RESULTS = Path(__file__).parent / "results"
FIGURES, ZOO = RESULTS / "which_network.json", RESULTS / "zoo.json"
CALLS = RESULTS / "which_network_calls.json"  # few networks for long: what a call adds to its network
NETWORKS = (
    "kerbnet_s",
    "kerbnet_m",
    "mininet_v2_cpu",
    "mininet_v2",
    "erfnet",
    "erfnet_d_light",
    "erfnet_dg2_light",
    "liteseg_shufflenet",
    "liteseg_mobilenet_v2",
    "efficientseg_1_5",
    "espnet",
    "fast_scnn",
    "pp_liteseg_t",
    "ddrnet_23_slim",
    "pidnet_s",
)
NOISE = 0.3  # share of pixels at borders above which a network sees no street
PAPERS = {"ddrnet": "DDRNet", "pidnet": "PIDNet", "pp_liteseg": "PP-LiteSeg", "fast_scnn": "Fast-SCNN"}
PAPERS |= {"erfnet": "ERFNet", "grouping": "Gradual grouping", "mininet": "MiniNet-v2", "liteseg": "LiteSeg"}
PAPERS |= {"efficientseg": "EfficientSeg"}


def opened(name: str, folder: Path, given: argparse.Namespace) -> Path:
    """A network's file, made where it is not there yet."""
    path = folder / f"{name}_{given.size[0]}x{given.size[1]}_{given.steps}.xml"
    if not path.exists():
        print(f"exporting {path.stem}", flush=True)
        torch.manual_seed(0)
        net = kept(name, create_model(name, len(LABELS)), folder, given.steps)
        in_int8(Bundle(net, random_bundle(name, LABELS).card), path, given.size)
    return path


def border_share(ids: np.ndarray) -> float:
    """Share of the pixels whose right or lower neighbor is of another class: what a last stage's time depends on."""
    other = np.zeros(ids.shape, bool)
    other[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    other[:-1] |= ids[:-1] != ids[1:]
    return float(other.mean())


def counted(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """What needs no clock; times are None until they are measured."""
    costs = cost(create_model(name, len(LABELS)), size)
    return {"network": name, "parameters": costs.parameters, "macs": costs.macs, "network_ms": None, "call_ms": None}


def measured(names: Sequence[str], files: Sequence[Path], given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a network, all timed by turns; they are loaded two at a time, which takes longer than the timing."""
    options, picture = RuntimeOptions(threads=given.threads), drawn_street(given.size)
    with ExitStack() as stack:
        with ThreadPoolExecutor(2) as pool:
            loading = [worker(of_model, str(file), options, picture) for file in files]
            workers = list(pool.map(stack.enter_context, loading))
        batches = [one.batch(what) for one in workers for what in ("forward", "call")]
        latencies = interleaved(batches, Budget(seconds=given.seconds))
    rows = []
    for number, (name, file) in enumerate(zip(names, files, strict=True)):
        network, call = latencies[2 * number : 2 * number + 2]
        row = counted(name, given.size) | {
            "network_ms": network.median_ms,
            "call_ms": call.median_ms,
            "call_p95_ms": call.p95_ms,
        }
        row |= {"runs": call.runs, "borders": border_share(open_runtime(file)(picture[None])[0])}
        rows.append(row)
    return rows


def published(name: str, size: tuple[int, int]) -> PrintedAccuracy | None:
    """What a paper prints of it on Cityscapes, at the size nearest to this one, val before the test server's split.

    On other data where there is no such figure.
    """
    every = printed_accuracies(name)
    some = [each for each in every if each.data == "Cityscapes"] or every
    return min(some, key=lambda each: (_distance(each.size, size), each.split != "val"), default=None)


def _distance(one: tuple[int, int] | None, other: tuple[int, int]) -> float:
    return math.inf if one is None else abs(math.log(math.prod(one) / math.prod(other)))


def in_words(printed: PrintedAccuracy | None) -> str:
    """An accuracy with all that it depends on; on Cityscapes where no other data are named."""
    if printed is None:
        return "none printed"
    size = "size not said" if printed.size is None else f"{printed.size[1]}x{printed.size[0]}"
    where = f"[{PAPERS[printed.paper]}, table {printed.table}](papers/{printed.paper}.md)"
    on = "" if printed.data == "Cityscapes" else f"{printed.data} "
    return f"{100 * printed.miou:.1f} % {on}{printed.split}, {size} ({where})"


def trained(name: str, zoo: Mapping[str, Any]) -> str:
    """What weights of ours score on CamVid's test split."""
    of_it = [entry["test"]["miou"] for entry in zoo["networks"].values() if entry["model"] == name and "test" in entry]
    return f"{max(of_it):.3f}" if of_it else "no weights"


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The quickest first; by multiply-adds where no time was measured."""
    return sorted(rows, key=lambda row: (row["call_ms"] or math.inf, row["macs"]))


def shown(ms: float | None) -> str:
    """A time, or that there is none."""
    return "not measured" if ms is None else f"{ms:.1f}"


def table(figures: Mapping[str, Any], zoo: Mapping[str, Any]) -> str:
    """All networks, the quickest first."""
    size = figures["protocol"]["size"]
    height, width = size
    lines = [
        "| network | parameters | GMACs | network, ms | whole call, ms | CamVid test, our weights"
        " | mIoU that a paper prints |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in ranked(figures["networks"]):
        name = row["network"]
        cells = [f"`{name}`", f"{row['parameters'] / 1e6:.2f} M", f"{row['macs'] / 1e9:.1f}"]
        cells += [shown(row["network_ms"]), shown(row["call_ms"])]
        cells += [trained(name, zoo), in_words(published(name, (height, width)))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def calls_table(figures: Mapping[str, Any]) -> str:
    """What a whole call takes beyond its network, of networks that were timed for long."""
    lines = ["| network | network, ms | whole call, ms | added, ms | calls |", "|---|--:|--:|--:|--:|"]
    for row in ranked(figures["networks"]):
        added = row["call_ms"] - row["network_ms"]
        cells = [
            f"`{row['network']}`",
            shown(row["network_ms"]),
            shown(row["call_ms"]),
            f"{added:+.1f}",
            str(row["runs"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def protocol_words(figures: Mapping[str, Any]) -> str:
    """How the times were taken."""
    how = figures["protocol"]
    if any(row["call_ms"] is None for row in figures["networks"]):
        return "Times of all families in one run were not measured yet."
    least = min(row["runs"] for row in figures["networks"])
    lacks = how["instructions"] is not None and not any("vnni" in each for each in how["instructions"])
    without = " **without instructions for 8-bit integers** (no VNNI)" if lacks else ""
    size = wide_by_high("x".join(map(str, how["size"])))
    noisy = [
        f"`{row['network']}` ({100 * row['borders']:.0f} %)" for row in figures["networks"] if row["borders"] > NOISE
    ]
    too_long = f" Pixels at borders were most in {', '.join(noisy)}: its whole call is too long here." if noisy else ""
    return (
        f"Times: {how['processor']}{without}, {how['threads']} threads, OpenVINO {how['versions']['openvino']}, int8,"
        f" one picture of {size} at a time, all networks by turns in one run on {how['date']}, medians of {least} calls"
        f" or more.{too_long}"
    )


def tables(figures: Mapping[str, Any], zoo: Mapping[str, Any], calls: Mapping[str, Any]) -> dict[str, str]:
    """What stands on the page between marks of these names."""
    return {"networks": table(figures, zoo), "protocol": protocol_words(figures), "calls": calls_table(calls)}


def write_page(page: Path, figures: Mapping[str, Any], zoo: Mapping[str, Any]) -> None:
    """The page with its tables made anew."""
    text = page.read_text()
    for mark, inside in tables(figures, zoo, json.loads(CALLS.read_text())).items():
        text = between(text, mark, inside)
    page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(512, 1024))
    parser.add_argument("--steps", type=int, default=40, help="of training on drawn scenes")
    parser.add_argument("--threads", type=int, help="all without it")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, shared by all")
    parser.add_argument("--work", type=Path, help="folder where exported files stay")
    parser.add_argument("--export-only", action="store_true", help="fill --work and time nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=NETWORKS, help="these networks alone")
    parser.add_argument("--untimed", action="store_true", help="count only; times are shown as not measured")
    parser.add_argument("--page", type=Path, help="write its tables, from --json or from the results of the repository")
    given = parsed(parser)
    if given.page is not None and given.json is None:
        write_page(given.page, json.loads(FIGURES.read_text()), json.loads(ZOO.read_text()))
        return
    for name in given.only:
        card(name)  # an unknown one is told before anything is exported
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.untimed:
            rows = [counted(name, given.size) for name in given.only]
        else:
            files = [opened(name, folder, given) for name in given.only]
            if given.export_only:
                return
            rows = measured(given.only, files, given)
    protocol = {**this_machine().to_dict(), "size": list(given.size), "precision": "int8", "engine": "openvino"}
    protocol["threads"] = given.threads or this_machine().cores
    protocol |= {"classes": len(LABELS), "weights": f"{given.steps} steps on drawn scenes", "seconds": given.seconds}
    protocol["picture"] = "a drawn street; all by turns"
    protocol["instructions"] = instructions()
    figures = {"protocol": protocol, "networks": rows}
    zoo = json.loads(ZOO.read_text())
    print(table(figures, zoo))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if given.page is not None:
        write_page(given.page, figures, zoo)


if __name__ == "__main__":
    main()
