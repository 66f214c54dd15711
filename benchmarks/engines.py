"""What small engines make of each network: whether it converts, equal pixels, int8, milliseconds and bytes.

Each network is exported for each engine, in float and in int8 where the engine has it; a refusal is kept with its
reason, and so is a file that takes longer than --cell-seconds. Shipped weights are taken where there are any
(calibrated on CamVid's train split, evaluated on val, with --data-root), then those of --weights (calibrated and
evaluated on the data set that they were trained on); the other networks see some drawn streets first, so that their
classes meet where a street's do, and no mIoU of them is measured. The files of one network are then timed by turns, a
process each. --work keeps the files and figures: a second run makes what is missing, and times the networks that it is
given. `--page` alone writes the page's table from the results, and measures nothing.
    kerbseg train smoke/scenes model.name=enet model.options={} --out runs/enet   # and so on; then --weights runs
    python benchmarks/engines.py --data-root camvid --work made --json benchmarks/results/engines.json
    python benchmarks/engines.py --page docs/engines.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from kerbnet import LABELS, instructions, kept
from marked import between

from kerbseg.bundle import Bundle, load, random_bundle, read_card, shipped
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.export import export, pictures_of
from kerbseg.export.int8 import Quantizer
from kerbseg.export.litert_converter import REQUIREMENT
from kerbseg.export.parity import FLOOR
from kerbseg.models import create_model
from kerbseg.profiling.latency import Budget, interleaved
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import drawn_street, of_model, worker
from kerbseg.runtime import ENGINES, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import size_bytes

NETWORKS = ["mininet_v2_cpu", "mininet_v2", "erfnet", "liteseg_mobilenet_v2", "efficientseg_1_5", "enet", "espnet"]
SMALL = ["openvino", "litert", "executorch", "ncnn"]
RESULTS = Path(__file__).parent / "results" / "engines.json"
MARK = "engines"
PACKAGES = ("openvino", "nncf", "ai-edge-litert", "ai-edge-quantizer", "executorch", "torchao", "ncnn", "pnnx")
SPLITS, WAYS = ("train", "val"), ("float", "int8")
NO_FLOAT = "no float file"
Row = dict[str, Any]


def trained(name: str, given: argparse.Namespace) -> str | Path | None:
    """The name of shipped weights for CamVid, or the run folder in --weights, where there are such."""
    if (own := f"{name}-camvid") in shipped():
        return own
    return given.weights / name if given.weights is not None and (given.weights / name).is_dir() else None


def weights_of(name: str, given: argparse.Namespace) -> str:
    """In words; the name of shipped ones where there are any."""
    weights = trained(name, given)
    if isinstance(weights, Path):
        recipe = read_card(weights).recipe
        return f"{recipe['epochs']} epochs on {recipe['data']['name']}"
    return weights or f"{given.steps} steps on drawn streets"


def bundle_of(name: str, folder: Path, given: argparse.Namespace) -> Bundle:
    """Trained weights, else those of some steps on drawn streets, which stay in the folder."""
    if (weights := trained(name, given)) is not None:
        return load(weights)
    torch.manual_seed(0)
    return Bundle(kept(name, create_model(name, len(LABELS)), folder, given.steps), random_bundle(name, LABELS).card)


def data_of(name: str, given: argparse.Namespace) -> str:
    """What a network is calibrated and compared on: what it was trained on, where that is there."""
    weights = trained(name, given)
    data = "camvid" if isinstance(weights, str) else "scenes"
    if isinstance(weights, Path):
        data = read_card(weights).recipe["data"]["name"]
    return data if data != "camvid" or given.data_root is not None else "scenes"


def float_file(bundle: Bundle, path: Path, shown: list[np.ndarray], size: tuple[int, int]) -> Row:
    """Parity and bytes of the float file, or why there is none."""
    try:
        agreement = export(bundle, path, size, pictures=shown)
    except KerbsegError as error:
        return {"refused": str(error).replace(str(path), "the file")}
    return {"equal": agreement.equal, "largest_difference": agreement.largest_difference, "bytes": size_bytes(path)}


def int8_file(
    bundle: Bundle, name: str, path: Path, shown: list[np.ndarray], splits: list[Dataset], given: argparse.Namespace
) -> Row:
    """Bytes of the file in int8, equal pixels and its mIoU beside the float file's, or why there is none."""
    calibration, eval_set = splits
    try:
        quantizer = Quantizer.of_bundle(bundle, ENGINES[name], tuple(given.size), calibration, given.calibration)
        quantized = quantizer.with_uint8_logits(quantizer.quantize_all())
        quantizer.save(quantized, path)
    except KerbsegError as error:
        return {"refused": str(error).replace(str(path), "the file")}
    in_int8, in_torch = open_runtime(path), open_runtime(bundle)
    equal = [float((in_int8(picture[None]) == in_torch(picture[None])).mean()) for picture in shown]
    made: Row = {"bytes": size_bytes(path), "equal": float(np.mean(equal)), "miou_drop": "not measured"}
    if bundle.card.scores and eval_set.labels.classes == bundle.card.labels.classes:
        before, after = (
            evaluate(open_runtime(each), eval_set, limit=given.limit).metrics.miou
            for each in (path.with_name(path.name.replace("_int8", "")), path)
        )
        made |= {"miou_float": before, "miou_int8": after, "miou_drop": before - after}
    return made


def cell(network: str, name: str, way: str, path: Path, given: argparse.Namespace) -> Row:
    """One file and its figures."""
    data = data_of(network, given)
    root = given.data_root if data == "camvid" else None
    splits = [open_dataset(data, split, root) for split in SPLITS]
    bundle, size = bundle_of(network, path.parent, given), (given.size[0], given.size[1])
    shown = pictures_of(splits[1], size, given.pictures)
    if way == "float":
        return float_file(bundle, path, shown, size)
    return int8_file(bundle, name, path, shown, splits, given)


def _send(connection: Any, *arguments: Any) -> None:
    os.setsid()  # so that what it starts (converters) can be ended with it
    connection.send(cell(*arguments))


def within(seconds: float, *arguments: Any) -> Row:
    """`cell` in a process of its own, which may take so long: what engines leave behind ends with it."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, *arguments))
    process.start()
    sending.close()
    try:
        if not receiving.poll(seconds):
            return {"not_measured": f"it took longer than {seconds:.0f} s"}
        made: Row = receiving.recv()
        return made
    except EOFError:
        process.join()
        return {"not_measured": f"the process that made it ended with {process.exitcode}"}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()  # before it has a group of its own
        process.join()


def make(folder: Path, rows: dict[str, Row], given: argparse.Namespace) -> None:
    """All files that are not there yet."""
    for network in given.networks:
        for name in given.engines:
            for way in given.ways:
                key = f"{network} {name} {way}"
                path = folder / f"{network}{'_int8' * (way == 'int8')}{ENGINES[name].suffix}"
                if key in rows:
                    continue
                if way == "int8" and "bytes" not in rows.get(f"{network} {name} float", {}):
                    rows[key] = {"refused": NO_FLOAT}
                elif given.cell_seconds:
                    rows[key] = within(given.cell_seconds, network, name, way, path, given)
                else:
                    rows[key] = cell(network, name, way, path, given)
                rows[key] |= {"file": path.name, "weights": weights_of(network, given), "data": data_of(network, given)}
                print(f"{key}: {rows[key]}", flush=True)
                (folder / "made.json").write_text(json.dumps(rows, indent=1))


def time_networks(folder: Path, rows: dict[str, Row], given: argparse.Namespace) -> None:
    """The files of each network by turns; they are loaded two at a time, which takes as long as the timing."""
    options, picture = RuntimeOptions(threads=given.threads), drawn_street((given.size[0], given.size[1]))
    for network in given.networks:
        made = {key: folder / row["file"] for key, row in rows.items() if key.split()[0] == network and "bytes" in row}
        if not made:
            continue
        with ExitStack() as stack:
            with ThreadPoolExecutor(2) as pool:
                loading = [worker(of_model, str(path), options, picture, dict(ENGINES)) for path in made.values()]
                workers = list(pool.map(stack.enter_context, loading))
            latencies = interleaved([one.batch("call") for one in workers], Budget(seconds=given.seconds))
        for key, latency in zip(made, latencies, strict=True):
            rows[key]["latency_ms"] = latency.to_dict()
            print(f"{key}: {latency.median_ms:.2f} ms", flush=True)
        (folder / "made.json").write_text(json.dumps(rows, indent=1))


def table(rows: Mapping[str, Row]) -> str:
    """The figures in Markdown, with each refusal and its reason below."""
    lines = [
        "| network | engine | equal pixels | int8: equal pixels | int8: mIoU lost | ms | int8: ms | kB | int8: kB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    reasons: list[str] = []
    for key in rows:
        network, name, way = key.split()
        if way == "float":
            both = [rows[key], rows.get(f"{network} {name} int8", {"not_measured": "it was not made in this run"})]
            lines.append(f"| {network} | {ENGINES[name].suffix} | {' | '.join(_cells(*both, reasons))} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]).strip()


def _cells(in_float: Row, in_int8: Row, reasons: list[str]) -> list[str]:
    """What stands in a line, both ways side by side."""
    texts = []
    for row in (in_float, in_int8):
        if "bytes" in row:
            ms = f"{row['latency_ms']['median']:.1f}" if "latency_ms" in row else "not measured"
            texts.append([f"{100 * row['equal']:.3f} %", ms, f"{row['bytes'] / 1e3:.0f}"])
        elif row.get("refused") == NO_FLOAT:  # whose reason stands in the same line
            texts.append(["", "", ""])
        else:
            word, reason = next((word, row[word]) for word in ("refused", "not_measured") if word in row)
            if reason not in reasons:
                reasons.append(reason)
            texts.append([f"{word.replace('_', ' ')} ({reasons.index(reason) + 1})", "", ""])
    drop = in_int8.get("miou_drop", "")
    lost = drop if isinstance(drop, str) else f"{drop:+.4f}"
    (equal, ms, size), (equal8, ms8, size8) = texts
    return [equal, equal8, lost, ms, ms8, size, size8]


def protocol_words(results: Mapping[str, Any]) -> str:
    """How the figures were taken."""
    how, rows = results["protocol"], results["rows"]
    height, width = how["size"]
    runs = [row["latency_ms"]["runs"] for row in rows.values() if "latency_ms" in row]
    least = f", medians of {min(runs)} calls or more" if runs else ""
    lacks = how["instructions"] is not None and not any("vnni" in each for each in how["instructions"])
    without = " **without instructions for 8-bit integers** (no VNNI)" if lacks else ""
    trained = sorted({row["weights"] for row in rows.values() if row.get("data") == "camvid"})
    weights = {key.split()[0]: row["weights"] for key, row in rows.items() if "weights" in row}
    untaught = f"{how['steps']} steps on drawn streets"
    taught = [name for name, text in weights.items() if text == untaught]
    own = {name: text for name, text in weights.items() if text != untaught and text not in trained}
    versions = ", ".join(f"{name} {number}" for name, number in how["packages"].items())
    evaluated = "all of val" if how["evaluated_on"] == "all" else f"the first {how['evaluated_on']} pictures of val"
    return (
        f"{how['processor']}{without}, {how['threads']} threads, {width}x{height}, {how['date']}; {versions}. A call"
        f" goes from a uint8 picture to its ids{least}, the files of one network by turns. Equal pixels:"
        f" {how['pictures']} pictures, against torch in float. {_listed(trained)}: trained on CamVid,"
        f" compared on its val, calibrated on"
        f" {how['calibration_pictures']} pictures of train; mIoU lost is float's less int8's on {evaluated}, with all"
        f" in int8 that the tool takes."
        + (
            f" {', '.join(f'`{name}` ({own[name]})' for name in sorted(own))}: trained by `kerbseg train smoke/scenes"
            f" model.name=NAME`, whose train and val take CamVid's place; float has an mIoU of {_reached(rows, {*own})}"
            f" there, of 19 classes."
            if own
            else ""
        )
        + (
            f" {_listed(sorted(taught))}: {how['steps']} steps on drawn streets, which they are compared and calibrated"
            f" on; what int8 costs them in mIoU is not measured."
            if taught
            else ""
        )
    )


def _reached(rows: Mapping[str, Row], networks: Set[str]) -> str:
    """From the least to the most mIoU in float of networks that were brought to int8."""
    reached = [row["miou_float"] for key, row in rows.items() if key.split()[0] in networks and "miou_float" in row]
    return f"{min(reached):.2f} to {max(reached):.2f}" if reached else "no figure"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def inside(results: Mapping[str, Any]) -> str:
    """What stands on the page between the marks."""
    return f"{table(results['rows'])}\n\n{protocol_words(results)}"


def protocol(given: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    converter, _, number = REQUIREMENT.partition("==")
    return {
        **this_machine().to_dict(), "size": given.size, "threads": given.threads,
        "packages": packages | ({converter: number} if "litert" in given.engines else {}),
        "instructions": instructions(), "steps": given.steps, "floor": FLOOR,
        "calibration_pictures": given.calibration, "pictures": given.pictures, "evaluated_on": given.limit or "all",
        "seconds": given.seconds, "latency": "uint8 picture to ids, batch 1; the files of a network by turns",
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Makes the files, times them and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--engines", nargs="+", default=SMALL)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="that files are made in now")
    parser.add_argument("--size", nargs=2, type=int, default=[360, 480], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--steps", type=int, default=40, help="on drawn streets, of networks without shipped weights")
    parser.add_argument("--weights", type=Path, help="folder with a run folder for each network without shipped ones")
    parser.add_argument("--data-root", type=Path, help="CamVid; drawn streets without it")
    parser.add_argument("--calibration", type=int, default=30, help="pictures")
    parser.add_argument("--pictures", type=int, default=8, help="that torch and a file are compared on")
    parser.add_argument("--limit", type=int, help="pictures that int8 is evaluated on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, for each network; 0 times none")
    parser.add_argument("--time-only", action="store_true", help="the files of --work as they are; make none")
    parser.add_argument("--cell-seconds", type=float, default=600.0, help="that one file may take; 0 sets no limit")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="write its table, from --json or from the results of the repository")
    given = parser.parse_args(argv)
    if given.page is not None and given.json is None:
        given.page.write_text(between(given.page.read_text(), MARK, inside(json.loads(RESULTS.read_text()))))
        return
    with TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / "made.json"
        rows: dict[str, Row] = json.loads(made.read_text()) if made.is_file() else {}
        if not given.time_only:
            make(folder, rows, given)
        if given.seconds:
            time_networks(folder, rows, given)
    results = {"protocol": protocol(given), "rows": rows}
    if given.json is not None:
        with atomic_write(given.json) as path:
            Path(path).write_text(json.dumps(results, indent=1) + "\n")
    if given.page is not None:
        given.page.write_text(between(given.page.read_text(), MARK, inside(results)))
    print(table(rows))


if __name__ == "__main__":
    main()
