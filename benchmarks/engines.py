"""What small engines make of each network: whether it converts, equal pixels, int8, milliseconds and bytes.

Each network is exported for each engine, in float and in int8 where the engine has it; a refusal is kept with its
reason, and so is a file that takes longer than --cell-seconds. Shipped weights are taken where there are any
(calibrated on CamVid's train split, evaluated on val, with --data-root); the other networks have random weights whose
batch-norms have seen drawn streets. The files of one network are then timed by turns, a process each. --work keeps the
files and figures: a second run makes what is missing, and times the networks that it is given.
Example: python benchmarks/engines.py --data-root camvid --work made --json benchmarks/results/engines.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cpu import with_statistics

from kerbseg.bundle import Bundle, load, shipped
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.export import export, pictures_of
from kerbseg.export.int8 import Quantizer
from kerbseg.profiling.latency import Budget
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import drawn_street, time_models
from kerbseg.runtime import ENGINES, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import size_bytes

NETWORKS = ["mininet_v2_cpu", "mininet_v2", "erfnet", "liteseg_mobilenet_v2", "efficientseg_1_5", "enet", "espnet"]
SMALL = ["openvino", "litert", "executorch", "ncnn"]
SPLITS = ("train", "val")
NO_FLOAT = "no float file"
Row = dict[str, Any]


def bundle_of(name: str) -> Bundle:
    """Shipped weights for CamVid, else random ones."""
    own = f"{name}-camvid"
    return load(own) if own in shipped() else with_statistics(name)


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
        quantizer.save(quantizer.with_uint8_logits(quantizer.quantize_all()), path)
    except KerbsegError as error:
        return {"refused": str(error).replace(str(path), "the file")}
    in_int8, in_torch = open_runtime(path), open_runtime(bundle)
    equal = [float((in_int8(picture[None]) == in_torch(picture[None])).mean()) for picture in shown]
    made: Row = {"bytes": size_bytes(path), "equal": float(np.mean(equal)), "miou_drop": "no weights"}
    if bundle.card.scores and eval_set.labels.classes == bundle.card.labels.classes:
        before, after = (
            evaluate(open_runtime(each), eval_set, limit=given.limit).metrics.miou
            for each in (path.with_name(path.name.replace("_int8", "")), path)
        )
        made |= {"miou_float": before, "miou_int8": after, "miou_drop": before - after}
    return made


def cell(network: str, name: str, way: str, path: Path, given: argparse.Namespace) -> Row:
    """One file and its figures."""
    data = "scenes" if given.data_root is None else "camvid"
    splits = [open_dataset(data, split, given.data_root) for split in SPLITS]
    bundle, size = bundle_of(network), (given.size[0], given.size[1])
    shown = pictures_of(splits[1], size, given.pictures)
    if way == "float":
        return float_file(bundle, path, shown, size)
    return int8_file(bundle, name, path, shown, splits, given)


def _send(connection: Any, *arguments: Any) -> None:
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
        process.kill()
        process.join()


def make(folder: Path, rows: dict[str, Row], given: argparse.Namespace) -> None:
    """All files that are not there yet."""
    for network in given.networks:
        for name in given.engines:
            for way in ("float", "int8"):
                key = f"{network} {name} {way}"
                path = folder / f"{network}{'_int8' * (way == 'int8')}{ENGINES[name].suffix}"
                if key in rows:
                    continue
                if way == "int8" and "bytes" not in rows[f"{network} {name} float"]:
                    rows[key] = {"refused": NO_FLOAT}
                elif given.cell_seconds:
                    rows[key] = within(given.cell_seconds, network, name, way, path, given)
                else:
                    rows[key] = cell(network, name, way, path, given)
                rows[key]["file"] = path.name
                print(f"{key}: {rows[key]}", flush=True)
                (folder / "made.json").write_text(json.dumps(rows, indent=1))


def time_networks(folder: Path, rows: dict[str, Row], given: argparse.Namespace) -> None:
    """The files of each network by turns."""
    for network in given.networks:
        made = {key: folder / row["file"] for key, row in rows.items() if key.split()[0] == network and "bytes" in row}
        if not made:
            continue
        timings = time_models(
            [str(path) for path in made.values()],
            [RuntimeOptions(threads=given.threads)] * len(made),
            [drawn_street((given.size[0], given.size[1]))] * len(made),
            Budget(seconds=given.seconds),
        )
        for key, timing in zip(made, timings, strict=True):
            rows[key]["latency_ms"] = timing.call.to_dict()
            print(f"{key}: {timing.call.median_ms:.2f} ms", flush=True)
        (folder / "made.json").write_text(json.dumps(rows, indent=1))


def table(rows: dict[str, Row]) -> str:
    """The figures in Markdown, with each refusal and its reason below."""
    lines = [
        "| network | engine | equal pixels | int8: equal pixels | int8: mIoU lost | ms | int8: ms | kB | int8: kB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    reasons: list[str] = []
    for key in rows:
        network, name, way = key.split()
        if way == "float":
            both = [rows[key], rows.get(f"{network} {name} int8", {"not_measured": "it was not made"})]
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


def main(argv: list[str] | None = None) -> None:
    """Makes the files, times them and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--engines", nargs="+", default=SMALL)
    parser.add_argument("--size", nargs=2, type=int, default=[360, 480], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--data-root", type=Path, help="CamVid; drawn streets without it")
    parser.add_argument("--calibration", type=int, default=30, help="pictures")
    parser.add_argument("--pictures", type=int, default=8, help="that torch and a file are compared on")
    parser.add_argument("--limit", type=int, help="pictures that int8 is evaluated on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, for each network; 0 times none")
    parser.add_argument("--cell-seconds", type=float, default=600.0, help="that one file may take; 0 sets no limit")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    with TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "made.json"
        rows: dict[str, Row] = json.loads(kept.read_text()) if kept.is_file() else {}
        make(folder, rows, given)
        if given.seconds:
            time_networks(folder, rows, given)
    if given.json is not None:
        protocol = {
            **this_machine().to_dict(), "size": given.size, "threads": given.threads,
            "data": "scenes" if given.data_root is None else "camvid",
            "calibration_pictures": given.calibration, "pictures": given.pictures, "evaluated_on": given.limit or "all",
            "seconds": given.seconds, "latency": "uint8 picture to ids, batch 1; the files of a network by turns",
        }  # fmt: skip
        with atomic_write(given.json) as path:
            Path(path).write_text(json.dumps({"protocol": protocol, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
