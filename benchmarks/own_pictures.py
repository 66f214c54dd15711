"""Which learning rate suits pictures of one's own, and what shipped weights are worth there: docs/own-data.md.

    python benchmarks/own_pictures.py --data-root DATA/camvid --out runs/own_pictures \\
        --json benchmarks/results/own_pictures.json

Three data sets of different size are made into `--out`; on each a network is trained from scratch and from the shipped
weights, whose last layer begins fresh. All trainings of a data set have equal steps of the same network at the same
size, so equal time. Nothing is chosen on the validation but the rate: the figure is that of the last epoch. Each rate
is tried with one seed; each arm's best one, with three. What stands in `--out` already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from trainings import Training, read, run_all, spread

from kerbseg.bundle import versions
from kerbseg.core.types import VOID, Dataset
from kerbseg.data import open_dataset
from kerbseg.data.convert import new_folder
from kerbseg.data.loading import Resized
from kerbseg.data.scenes import Scenes
from kerbseg.profiling.machine import processor_name
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import checked

NETWORK, WEIGHTS = "mininet_v2_cpu", "mininet_v2_cpu-camvid"
BODY = ["downsample.", "features.", "refinement.", "upsampling.", "fusion."]  # all but the layer of the classes
RATES = {"from scratch": (1e-3, 3e-3, 1e-2, 3e-2), "shipped weights": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
SEEDS = (0, 1, 2)


class Own(NamedTuple):
    """A data set as a user may have it: a class of ours for each of the source's, and how long a training lasts."""

    says: str
    count: int  # pictures of training, spread evenly over those of the source
    size: tuple[int, int]
    crop: tuple[int, int]
    epochs: int
    classes: Mapping[str, str] | None  # the source's to ours; as they are without it
    rest: str = "rest"  # of all classes that are not named


SETS = {
    "camvid_40": Own(
        "40 pictures of CamVid, 4 classes",
        40, (120, 160), (120, 160), 40, {"road": "street", "sky": "sky", "car": "vehicle", "bicyclist": "vehicle"},
    ),
    "scenes_150": Own("150 drawn scenes, 19 classes", 150, (64, 128), (64, 128), 12, None),
    "camvid_367": Own(
        "367 pictures of CamVid, 7 classes",
        367, (96, 128), (96, 128), 4,
        {"sky": "sky", "building": "house", "road": "ground", "pavement": "ground", "tree": "green",
         "car": "vehicle", "bicyclist": "person", "pedestrian": "person"},
    ),
}  # fmt: skip


def source(name: str, split: str, data_root: Path | None) -> Dataset:
    """The pictures that a data set is made of; the test splits are not touched."""
    if name.startswith("scenes"):
        return Scenes(split, SETS[name].count if split == "train" else None, SETS[name].size)
    return open_dataset("camvid", split, data_root)


def make(name: str, folder: Path, data_root: Path | None) -> None:
    """Writes a data set in the `folder` form, at its size."""
    own, train = SETS[name], source(name, "train", data_root)
    theirs = train.labels.classes
    ours = [own.classes.get(each, own.rest) for each in theirs] if own.classes is not None else list(theirs)
    names = list(dict.fromkeys(ours))
    ids = np.full(256, VOID, np.uint8)
    ids[: len(ours)] = [names.index(each) for each in ours]
    with new_folder(folder) as out:
        for split in ("train", "val"):
            pictures = Resized(source(name, split, data_root), own.size)
            count = min(own.count, len(pictures)) if split == "train" else len(pictures)
            for kind in ("images", "masks"):
                (out / kind / split).mkdir(parents=True)
            for i in (round(k * len(pictures) / count) for k in range(count)):
                sample = pictures[i]
                Image.fromarray(sample.image).save(out / "images" / split / f"{i:04}.png")
                Image.fromarray(ids[sample.mask]).save(out / "masks" / split / f"{i:04}.png")
        (out / "dataset.yaml").write_text(f"classes: {json.dumps(names)}\nignore: [{VOID}]\n", encoding="utf-8")


def recipe(own: Own, rate: float, seed: int, epochs: int | None = None) -> Recipe:
    """Short training of a user's pictures; both arms have the same one."""
    epochs = epochs or own.epochs
    made = checked(
        {
            "model": {"name": NETWORK, "options": {"dropout": 0.0}},
            "data": {"name": "folder"},
            "epochs": epochs,
            "batch_size": 8,
            "augment": {
                "flip": 0.5, "scale": [0.7, 1.8], "crop": list(own.crop),
                "brightness": 0.3, "contrast": 0.3, "saturation": 0.3,
            },
            "loss": {"weights": "median_frequency", "power": 0.4},
            "optim": {"name": "adamw", "lr": rate, "weight_decay": 1e-2},
            "schedule": {"name": "one_cycle", "pct_start": 0.15},
            "ema": 0.98,
            "norm_momentum": 0.1,  # the network's own, 0.01, follows too slowly for a few hundred steps
            "validate_every": epochs,
            "seed": seed,
        },
        "own_pictures",
    )  # fmt: skip
    assert isinstance(made, Recipe)
    return made


def training(name: str, arm: str, rate: float, seed: int, epochs: int | None) -> Training:
    """One run; its arm in the table carries the rate."""
    made = recipe(SETS[name], rate, seed, epochs)
    if arm == "from scratch":
        return Training(name, f"{arm} {rate:g}", made)
    raw = made.to_dict()
    raw["model"]["init"] = BODY
    started = checked(raw, "own_pictures")
    assert isinstance(started, Recipe)
    return Training(name, f"{arm} {rate:g}", started, WEIGHTS)


def run(
    name: str, folder: Path, seeds: Sequence[int], rates: Mapping[str, Sequence[float]], epochs: int | None
) -> list[dict[str, Any]]:
    """Each arm at each rate with the first seed, then at its best rate with the others."""
    out, data = folder / f"{name}.jsonl", folder / name
    lines = []
    for arm, several in rates.items():
        tried = [run_all([training(name, arm, rate, seeds[0], epochs)], out, data, tested=False)[0] for rate in several]
        best = max(tried, key=lambda line: line["val_last"])
        rate = best["recipe"]["optim"]["lr"]
        more = [training(name, arm, rate, seed, epochs) for seed in seeds[1:]]
        lines += [*tried, *run_all(more, out, data, tested=False)]
    return lines


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """mIoU in percent on val after the last epoch: a row for each data set and start, a column for each rate."""
    rates = sorted({line["recipe"]["optim"]["lr"] for line in lines})
    rows = [f"| data | start | {' | '.join(f'{rate:.0e}' for rate in rates)} |", "|---|---|" + "---|" * len(rates)]
    figures: dict[tuple[str, str], dict[float, list[float]]] = {}
    for line in lines:
        start = "scratch" if line.get("initial") is None else "weights"
        by_rate = figures.setdefault((line["network"], start), {})
        by_rate.setdefault(line["recipe"]["optim"]["lr"], []).append(line["val_last"])
    for (name, start), by_rate in figures.items():
        cells = (spread(by_rate[rate]) if rate in by_rate else "-" for rate in rates)
        rows.append(f"| {SETS[name].says} | {start} | {' | '.join(cells)} |")
    return "\n".join(rows)


def document(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All figures with how they were taken."""
    return {
        "protocol": {
            "figure": "mIoU on val after the last epoch, averaged weights, at the size of the pictures; no test split",
            "network": NETWORK,
            "initial": f"{WEIGHTS}, last layer fresh",
            "seconds": "trained_s is of a machine that other work shared: equal steps are the equal time",
            "threads": torch.get_num_threads(),
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "versions": dict(versions()),
            "sets": {name: own._asdict() for name, own in SETS.items()},
        },
        "runs": list(lines),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--rates", type=float, nargs="+", help="of both arms (default: four or five of each)")
    parser.add_argument("--epochs", type=int, help="(default: those of the data set)")
    parser.add_argument("--only-read", action="store_true", help="show what stands in --out; train nothing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    rates = dict.fromkeys(RATES, tuple(options.rates)) if options.rates else RATES
    for name in options.sets:
        if options.only_read:
            lines += read(options.out / f"{name}.jsonl")
            continue
        if not (options.out / name).exists():
            make(name, options.out / name, options.data_root)
        lines += run(name, options.out, options.seeds, rates, options.epochs)
    print(table(lines))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document(lines), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
