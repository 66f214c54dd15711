"""Pictures a second of `kerbseg predict` with one and two workers of Ray, a thread each, against the plain loop.

    python benchmarks/ray_scaling.py --data-root DATA/camvid --json benchmarks/results/ray_scaling.json
    python benchmarks/ray_scaling.py --json benchmarks/results/ray_scaling.json --only-read --page docs/scale.md

All ways write ids of the same pictures as PNG, and take turns. `steady` leaves the start of workers out: it counts what
came after the first shard of each. What a thousand machines would need follows from it, and is marked as calculated.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from textwrap import fill
from typing import Any

from kerbseg.cluster import ModelFiles, PredictTask, find_items, shards_of
from kerbseg.cluster.pool import ray_pool
from kerbseg.data import open_dataset, picture_file
from kerbseg.predict import Predictor, predict_files
from kerbseg.profiling.machine import this_machine

SHARD = 8  # pictures
MACHINES, CORES = 1000, 8  # on paper
PRICE = 0.04  # US dollars for a core and an hour: a round number, put in yours
MILLION = 1_000_000
PART = 64  # pictures of a Parquet file


def plain(predictor: Predictor, pictures: list[str], out: Path) -> dict[str, float]:
    """The loop of one process, whose model is open."""
    started = time.perf_counter()
    predict_files(predictor, pictures, out, sinks=["ids"])
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "steady": len(pictures) / seconds}


def spread(model: str, pictures: list[str], out: Path, workers: int) -> dict[str, float]:
    """Workers of Ray, which are started and open the model within the time."""
    task = PredictTask(ModelFiles.read(model), str(out), words=("ids",))
    items, _ = find_items(pictures, task.out, sinks=task.sinks)
    shards = shards_of(items, workers, largest=SHARD)
    with ray_pool(workers=workers) as pool:
        started = time.perf_counter()
        came = [(time.perf_counter(), len(outcome["done"])) for outcome in pool(task, shards)]
    assert sum(count for _, count in came) == len(pictures), "pictures were lost"
    late = sum(count for _, count in came[workers:])
    return {"seconds": came[-1][0] - started, "steady": late / (came[-1][0] - came[workers - 1][0])}


def measure(model: str, pictures: list[str], turns: int, keep: Callable[[dict[str, Any]], None]) -> None:
    """All ways by turns; what is there is kept after each."""
    load, predictor = os.getloadavg()[0], Predictor(model, threads=1)
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "1 worker": [], "2 workers": []}
    predictor(pictures[0])
    sizes = [Path(each).stat().st_size for each in pictures]
    made: dict[str, Any] = {"pictures": len(pictures), "bytes_a_picture": sum(sizes) / len(sizes), "model": model}
    for turn in range(turns):
        for way, each in runs.items():
            with TemporaryDirectory(prefix="ray-scaling-") as folder:
                out = Path(folder) / "out"
                workers = 0 if way == "plain" else int(way.split()[0])
                each.append(spread(model, pictures, out, workers) if workers else plain(predictor, pictures, out))
                ids = [path.stat().st_size for path in out.glob("*_ids.png")]
        protocol = {
            **made,
            "bytes_of_ids": sum(ids) / len(ids),
            "threads_of_each": 1,
            "turns": turn + 1,
            "shard": SHARD,
            "what": "reading lossless WebP, network in torch, writing ids as PNG; median over turns",
            "load": load,
            "ray": version("ray"),
            "machine": this_machine().to_dict(),
        }
        figures = ("seconds", "steady")
        ways = {way: {name: median(run[name] for run in each) for name in figures} for way, each in runs.items()}
        keep({"ways": ways, "protocol": protocol})


def scaling_part(figures: dict[str, Any]) -> str:
    """The measured table, with its protocol."""
    ways, protocol = figures["ways"], figures["protocol"]
    first = ways["plain"]["steady"]
    rows = [
        f"| {'plain loop' if way == 'plain' else way} | {each['steady']:.1f} | {each['steady'] / first:.2f} |"
        f" {each['seconds']:.0f} |"
        for way, each in ways.items()
    ]
    machine = protocol["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, Ray {protocol['ray']}, {machine['date']}"
    return "\n".join(
        [
            "| | pictures a second | of the plain loop | seconds in all |",
            "|---|--:|--:|--:|",
            *rows,
            "",
            fill(
                f"{protocol['pictures']} pictures of CamVid at 480x360 (WxH), {protocol['model']}, a thread each:"
                " reading lossless WebP, network in torch, writing ids as PNG. The rate is that after the first shard"
                f" of each worker; the seconds hold their start. Median of {protocol['turns']} turns, {where}; load"
                f" {protocol['load']:.1f} when it began.",
                120,
            ),
        ]
    )


def paper_part(figures: dict[str, Any]) -> str:
    """What follows from it for a thousand machines: calculated, not measured."""
    ways, protocol = figures["ways"], figures["protocol"]
    rate = ways["2 workers"]["steady"] / 2  # of a core, with Ray beside it
    frames = rate * MACHINES * CORES
    hours = MILLION / rate / 3600
    gigabytes = frames * protocol["bytes_a_picture"] / 1e9
    rows = {
        "a core, measured above with two workers": f"{rate:.1f} pictures a second",
        "a million pictures, in hours of a core": f"{hours:.0f}",
        f"the same in US dollars, at {PRICE} for such an hour": f"{hours * PRICE:.2f}",
        f"{MACHINES:,} machines of {CORES} cores": f"{frames:,.0f} pictures a second",
        "a million pictures on them": f"{MILLION / frames:.0f} s, and the start of workers",
        "reads of the store": f"{frames:,.0f} a second, {gigabytes:.1f} GB a second",
        "writes, ids as PNG": f"{frames:,.0f} a second, {frames * protocol['bytes_of_ids'] / 1e9:.2f} GB a second",
        f"writes, Parquet of {PART} pictures, and a record each": f"{2 * frames / PART:,.0f} a second",
        "prefixes that these reads need, 5,500 each": f"{-(-frames // 5500):.0f}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(
        [
            fill(
                "All of this is calculated from the rate above; nothing of it was measured, and no cluster scales"
                " without loss. The price is a round number: put in yours.",
                120,
            ),
            "",
            "| | calculated |",
            "|---|--:|",
            *lines,
        ]
    )


def write_parts(page: Path, figures: dict[str, Any]) -> None:
    """Puts both parts between their marks."""
    text = page.read_text(encoding="utf-8")
    for mark, part in {"scaling": scaling_part(figures), "paper": paper_part(figures)}.items():
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{part}\n\n{end}", text, flags=re.DOTALL)  # noqa: B023
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Measures, or reads what was measured, and writes the page's parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, help="folder of CamVid")
    parser.add_argument("--model", default="mininet_v2_cpu-camvid", help="model to run")
    parser.add_argument("--pictures", type=int, default=303, help="how many; the split's are taken more than once")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True, help="file of figures")
    parser.add_argument("--only-read", action="store_true", help="measure nothing")
    parser.add_argument("--page", type=Path, help="page to write the parts of")
    given = parser.parse_args()

    def keep(figures: dict[str, Any]) -> None:
        given.json.write_text(f"{json.dumps(figures, indent=1)}\n", encoding="utf-8")

    if not given.only_read:
        split = open_dataset("camvid", "val", given.data_root)
        files = [path for index in range(len(split)) if (path := picture_file(split, index))]
        with TemporaryDirectory(prefix="ray-scaling-in-") as folder:
            pictures = []
            for index in range(given.pictures):
                file = files[index % len(files)]
                pictures.append(shutil.copyfile(file, str(Path(folder) / f"{index:05}{file.suffix}")))
            measure(given.model, pictures, given.turns, keep)
    if given.page is not None:
        write_parts(given.page, json.loads(given.json.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
