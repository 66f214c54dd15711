"""What small engines make of each network: whether it converts, equal pixels, int8, milliseconds and bytes.

Each network is exported for each engine, in float and in int8 where the engine has it; a refusal is kept with its
reason.
Shipped weights are taken where there are any (calibrated on CamVid's train split, evaluated on val, with --data-root);
the other networks have random weights whose batch-norms have seen drawn streets. All files are then timed by turns, a
process each. --work keeps the files, so that a second run only times.
Example: python benchmarks/engines.py --data-root camvid --work made --json benchmarks/results/engines.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


def bundle_of(name: str) -> Bundle:
    """Shipped weights for CamVid, else random ones."""
    own = f"{name}-camvid"
    return load(own) if own in shipped() else with_statistics(name)


def float_file(bundle: Bundle, path: Path, size: tuple[int, int], shown: Dataset, count: int) -> dict[str, Any]:
    """Parity and bytes of the float file, or why there is none."""
    try:
        agreement = export(bundle, path, size, pictures=pictures_of(shown, size, count))
    except KerbsegError as error:
        return {"refused": str(error)}
    return {"equal": agreement.equal, "largest_difference": agreement.largest_difference, "bytes": size_bytes(path)}


def int8_file(
    bundle: Bundle, name: str, path: Path, size: tuple[int, int], splits: list[Dataset], most: int, limit: int | None
) -> dict[str, Any]:
    """Bytes of the file in int8 and its mIoU beside torch's, or why there is none."""
    calibration, eval_set = splits
    try:
        quantizer = Quantizer.of_bundle(bundle, ENGINES[name], size, calibration, most)
        quantizer.save(quantizer.quantize_all(), path)
    except KerbsegError as error:
        return {"refused": str(error)}
    made: dict[str, Any] = {"bytes": size_bytes(path), "miou_drop": "no weights"}
    if bundle.card.scores and eval_set.labels.classes == bundle.card.labels.classes:
        before, after = (
            evaluate(open_runtime(each), eval_set, limit=limit).metrics.miou
            for each in (path.with_name(path.name.replace("_int8", "")), path)
        )
        made |= {"miou_float": before, "miou_int8": after, "miou_drop": before - after}
    return made


def main(argv: list[str] | None = None) -> None:
    """Makes the files, times them and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--engines", nargs="+", default=SMALL)
    parser.add_argument("--size", nargs=2, type=int, default=[360, 480], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--data-root", type=Path, help="CamVid; drawn streets without it")
    parser.add_argument("--calibration", type=int, default=30, help="pictures")
    parser.add_argument("--pictures", type=int, default=8, help="that torch and a float file are compared on")
    parser.add_argument("--limit", type=int, help="pictures that int8 is evaluated on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, for all files together")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    size = (given.size[0], given.size[1])
    data = "scenes" if given.data_root is None else "camvid"
    splits = [open_dataset(data, split, given.data_root) for split in ("train", "val")]
    with TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "made.json"
        rows: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
        for network in given.networks:
            bundle = bundle_of(network)
            for name in given.engines:
                suffix = ENGINES[name].suffix
                for way in ("float", "int8"):
                    key, path = f"{network} {name} {way}", folder / f"{network}{'_int8' * (way == 'int8')}{suffix}"
                    if key in rows:
                        continue
                    if way == "float":
                        rows[key] = float_file(bundle, path, size, splits[1], given.pictures)
                    elif "refused" in rows[f"{network} {name} float"]:
                        rows[key] = {"refused": "no float file"}
                    else:
                        rows[key] = int8_file(bundle, name, path, size, splits, given.calibration, given.limit)
                    rows[key]["file"] = path.name
                    print(f"{key}: {rows[key]}", flush=True)
                    kept.write_text(json.dumps(rows, indent=1))
        made = {key: folder / row["file"] for key, row in rows.items() if "refused" not in row}
        timings = time_models(
            [str(path) for path in made.values()],
            [RuntimeOptions(threads=given.threads)] * len(made),
            [drawn_street(size)] * len(made),
            Budget(seconds=given.seconds),
        )
        for key, timing in zip(made, timings, strict=True):
            rows[key] = {**rows[key], "latency_ms": timing.call.to_dict()}
            print(f"{key}: {timing.call.median_ms:.2f} ms")
    if given.json is not None:
        protocol = {
            **this_machine().to_dict(), "size": list(size), "threads": given.threads, "data": data,
            "calibration_pictures": given.calibration, "latency": "uint8 picture to ids, batch 1, all by turns",
        }  # fmt: skip
        with atomic_write(given.json) as path:
            Path(path).write_text(json.dumps({"protocol": protocol, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
