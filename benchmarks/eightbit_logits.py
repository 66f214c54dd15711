"""What logits of a byte each are worth in int8 files for OpenVINO: milliseconds of a whole call, and mIoU.

Each network is brought to int8 once and written twice, with float32 and with uint8 logits. Both files of all networks
are timed by turns, a process each: from a uint8 picture (a drawn street) to uint8 class ids, batch 1. With --data,
networks of its classes are calibrated on its train split, and both ways are evaluated on its val split at the size of
their card; others are calibrated on drawn streets. --work keeps the files for the next run; names of networks without
weights have random ones, whose batch-norms have seen pictures.
Example: python benchmarks/eightbit_logits.py erfnet-camvid erfnet_dg2_light --data camvid --json eightbit.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cpu import with_statistics
from rich.console import Console
from rich.table import Table

import kerbseg.models as models
from kerbseg.bundle import Bundle, load
from kerbseg.core.files import atomic_write
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate
from kerbseg.export.int8 import Quantizer
from kerbseg.profiling.latency import Budget
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import drawn_street, time_models
from kerbseg.runtime import ENGINES, RuntimeOptions, open_runtime
from kerbseg.runtime.openvino import openvino

WAYS = ("float32", "uint8")
SPLITS = ("train", "val")


def bundle_of(name: str) -> Bundle:
    """Of a file or shipped weights; of a network's name alone, random weights."""
    return with_statistics(name) if name in models.list_models() else load(name)


def written(
    bundle: Bundle, name: str, size: tuple[int, int], folder: Path, calibration: Dataset, most: int
) -> list[Path]:
    """The files with float32 and with uint8 logits; those that are there already are kept."""
    paths = [folder / f"{Path(name).stem}-{size[0]}x{size[1]}-{way}.xml" for way in WAYS]
    if not all(path.exists() for path in paths):
        quantizer = Quantizer.of_bundle(bundle, ENGINES["openvino"], size, calibration, most)
        quantized = quantizer.quantize_all()
        for path, each in zip(paths, (quantized, quantizer.with_uint8_logits(quantized)), strict=True):
            quantizer.save(each, path)
    return paths


def losses(paths: list[Path], val: Dataset, limit: int | None, threads: int) -> dict[str, Any]:
    """mIoU of both files on a val split, and what the second loses."""
    mious = {way: evaluate(open_runtime(path, threads=threads), val, limit=limit).metrics.miou
             for way, path in zip(WAYS, paths, strict=True)}  # fmt: skip
    return {"miou": mious, "miou_drop": mious["float32"] - mious["uint8"]}


@contextmanager
def work_folder(kept: Path | None) -> Iterator[Path]:
    """The folder that keeps files, or one that does not stay."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="bundles, names of shipped weights, names of networks")
    parser.add_argument("--size", default="512x1024", help="of the timed pictures, HEIGHTxWIDTH")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=50, help="timed calls of each file; 0 times nothing")
    parser.add_argument("--calibration-pictures", type=int, default=30)
    parser.add_argument("--data", help="data set to calibrate and evaluate on")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--limit", type=int, help="pictures of the val split")
    parser.add_argument("--work", type=Path, help="folder that keeps the exported files")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measured(arguments: argparse.Namespace, size: tuple[int, int], folder: Path) -> dict[str, dict[str, Any]]:
    """What is measured of each network."""
    splits = [open_dataset(arguments.data, each, arguments.data_root) for each in SPLITS] if arguments.data else []
    most, rows, timed = arguments.calibration_pictures, [], []
    for name in arguments.models:
        bundle = bundle_of(name)
        row: dict[str, Any] = {"model": bundle.card.model, "weights": bundle.card.source or "of the bundle"}
        known = bool(splits) and bundle.card.labels.classes == splits[0].labels.classes
        if arguments.runs:
            timed += written(bundle, name, size, folder, splits[0] if known else Scenes("train", most, size), most)
        if known:
            paths = written(bundle, name, bundle.card.input_size, folder, splits[0], most)
            row |= {"evaluated_at": bundle.card.input_size}
            row |= losses(paths, splits[1], arguments.limit, arguments.threads)
        rows.append(row)
    if timed:
        options = [RuntimeOptions("openvino", threads=arguments.threads)] * len(timed)
        pictures = [drawn_street(size)] * len(timed)
        timings = time_models([str(path) for path in timed], options, pictures, Budget(runs=arguments.runs))
        for row, in_float, in_uint8 in zip(rows, timings[::2], timings[1::2], strict=True):
            row["latency_ms"] = {"float32": in_float.call.to_dict(), "uint8": in_uint8.call.to_dict()}
            row["ratio"] = in_uint8.call.median_ms / in_float.call.median_ms
    return {Path(name).stem: row for name, row in zip(arguments.models, rows, strict=True)}


def main() -> None:
    """Prints a table and writes the figures."""
    arguments = parsed()
    height, width = map(int, arguments.size.split("x"))
    with work_folder(arguments.work) as folder:
        rows = measured(arguments, (height, width), folder)
    openvino()  # so that its version is among the machine's
    protocol = {
        **this_machine().to_dict(),
        "threads": arguments.threads,
        "size": [height, width],
        "latency": "uint8 picture (drawn street) to ids, batch 1, a process each, all files by turns",
        "calibration_pictures": arguments.calibration_pictures,
        "data": arguments.data,
        "limit": arguments.limit,
    }
    show(rows)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(arguments.json) as temporary:
            Path(temporary).write_text(json.dumps({"protocol": protocol, "networks": rows}, indent=1) + "\n")


def show(rows: dict[str, dict[str, Any]]) -> None:
    """A line a network."""
    table = Table("network", "float32 logits", "uint8 logits", "ratio", "mIoU", "change")
    for name, row in rows.items():
        times = (
            [f"{row['latency_ms'][way]['median']:.1f} ms" for way in WAYS] if "ratio" in row else ["not measured"] * 2
        )
        ratio = f"{row['ratio']:.3f}" if "ratio" in row else ""
        miou = [f"{row['miou']['float32']:.4f}", f"{-row['miou_drop']:+.4f}"] if "miou" in row else ["not measured", ""]
        table.add_row(name, *times, ratio, *miou)
    Console().print(table)


if __name__ == "__main__":
    main()
