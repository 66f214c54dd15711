"""Gradual grouping against grouped from the start: the same network, budget and seeds, on CamVid.

    python benchmarks/gradual_grouping.py --data-root DATA/camvid --out runs/grouping/results.jsonl

trains what the file lacks and prints the table; `--plot FILE` draws it. The arm `dense` is the network before grouping.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from trainings import Training, arms, read, run_all, spread

from kerbseg.train.recipe import Augment, Data, Grouping, Model, Recipe
from kerbseg.train.recipe_loss import MedianFrequencyLoss
from kerbseg.train.recipe_optim import AdamW, OneCycle

POINTWISE = {"groups": 4, "kinds": ["pointwise"], "channels": 16}
NETWORKS = {
    "erfnet": Model("erfnet_dg4_light"),
    "liteseg": Model("liteseg_mobilenet_v2", {"grouped": POINTWISE}),
    "efficientseg": Model("efficientseg", {"width": 0.5, "raw_logits": True, "grouped": POINTWISE}),
}
DENSE = {
    "erfnet": Model("erfnet_d_light"),
    "liteseg": Model("liteseg_mobilenet_v2"),
    "efficientseg": Model("efficientseg", {"width": 0.5, "raw_logits": True}),
}
ARMS = ("dense", "grouped", "faded")
FADED = Grouping(until=0.5, schedule="linear", by="step")


def training(network: str, arm: str, seed: int, epochs: int, size: tuple[int, int]) -> Training:
    """One of the trainings; arms differ in the network they begin with, and in nothing else."""
    crop = (size[0] * 4 // 5 // 32 * 32, size[1] * 4 // 5 // 32 * 32)  # 32: the deepest grid is 1/32 of the picture
    recipe = Recipe(
        model=(DENSE if arm == "dense" else NETWORKS)[network],
        data=Data("camvid", size=size),
        epochs=epochs,
        batch_size=8,
        augment=Augment(flip=0.5, scale=(0.75, 1.5), brightness=0.2, contrast=0.2, crop=crop),
        loss=MedianFrequencyLoss(power=0.4),
        optim=AdamW(lr=2e-3, weight_decay=1e-2),
        schedule=OneCycle(pct_start=0.15),
        grouping=FADED if arm == "faded" else None,
        validate_every=2,
        seed=seed,
    )
    return Training(network, arm, recipe)


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds, in percent, and each seed's figure."""
    rows = [
        "| network | arm | parameters | val, best epoch | val, last epoch | test | test, seed by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for (network, arm), several in arms(lines):
        figures = [
            spread([line[key] for line in several if line[key] is not None])
            for key in ("val_best", "val_last", "test_best")
        ]
        each = ", ".join(f"{100 * line['test_best']:.2f}" for line in several)
        rows.append(f"| {network} | {arm} | {several[0]['parameters']:,} | {' | '.join(figures)} | {each} |")
    return "\n".join(rows)


def plot(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Test mIoU: a dot a seed, a bar at the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    colors = {"dense": "tab:gray", "grouped": "tab:blue", "faded": "tab:orange"}
    names = list(dict.fromkeys(line["network"] for line in lines))
    shown = [arm for arm in ARMS if any(line["arm"] == arm for line in lines)]
    for (network, arm), several in arms(lines):
        x = names.index(network) + (shown.index(arm) - (len(shown) - 1) / 2) * 0.22
        values = [100 * line["test_best"] for line in several]
        mean = sum(values) / len(values)
        axes.scatter([x] * len(values), values, color=colors[arm], s=22, label=arm if network == names[0] else None)
        axes.hlines(mean, x - 0.08, x + 0.08, color=colors[arm], linewidth=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("mIoU on CamVid test, %")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Trains what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["grouped", "faded"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--size", nargs=2, type=int, default=[120, 160], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--data-root", type=Path, help="folder of CamVid; $KERBSEG_DATA/camvid without it")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what they hold is not trained again")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--only-read", action="store_true", help="train nothing; show what the file holds")
    wanted = parser.parse_args()
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    size = (wanted.size[0], wanted.size[1])
    # seeds outside, so that a run that is cut off has all networks and arms
    plan = [
        training(network, arm, seed, wanted.epochs, size)
        for seed, network, arm in product(wanted.seeds, wanted.networks, wanted.arms)
    ]
    lines = read(wanted.out) if wanted.only_read else run_all(plan, wanted.out, wanted.data_root)
    lines.sort(key=lambda line: (list(NETWORKS).index(line["network"]), ARMS.index(line["arm"])))
    print(table(lines))
    if wanted.plot is not None:
        plot(lines, wanted.plot)


if __name__ == "__main__":
    main()
