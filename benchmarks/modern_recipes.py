"""What today's practice adds to MiniNet-v2-cpu, ingredient by ingredient, on CamVid's validation split.

    python benchmarks/modern_recipes.py --data-root DATA/camvid --out runs/modern/results.jsonl

trains what the file lacks and prints the table. `modern` is AdamW, one cycle, averaged weights and milder class
weights; each other arm differs from it in one thing, but for `paper`. The teacher is MiniNet-v2, trained first.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainings import Training, arms, read, run_all, spread

from kerbseg.train.recipe import Augment, Data, Distill, Model, Recipe
from kerbseg.train.recipe_loss import AuxHead, Boundary, Lovasz, MedianFrequencyLoss, Ohem
from kerbseg.train.recipe_optim import Adam, AdamW, Cosine, OneCycle, Poly

SIZE, CROP = (120, 160), (96, 128)
MODERN = Recipe(
    model=Model("mininet_v2_cpu", {"dropout": 0.1}),
    data=Data("camvid", size=SIZE),
    epochs=1,
    batch_size=8,
    augment=Augment(flip=0.5, scale=(0.75, 1.5), brightness=0.3, contrast=0.3, saturation=0.3, crop=CROP),
    loss=MedianFrequencyLoss(power=0.4),
    optim=AdamW(lr=4e-3, weight_decay=1e-2),
    schedule=OneCycle(pct_start=0.15),
    ema=0.99,
    validate_every=2,
)
PAPER = replace(
    MODERN,
    model=Model("mininet_v2_cpu"),
    augment=Augment(flip=0.5, scale=(0.5, 2.0), translate=(0.3, 0.1), brightness=0.05, contrast=0.07, crop=CROP),
    loss=MedianFrequencyLoss(power=0.12),
    optim=Adam(lr=1e-3, weight_decay=2e-4),
    schedule=Poly(power=0.9, min_lr_ratio=0.01),
    ema=None,
)
LOSSES: dict[str, dict[str, Any]] = {
    "+ hard pixels": {"ohem": Ohem()},
    "+ boundaries": {"boundary": Boundary()},
    "+ Lovász": {"lovasz": Lovasz(0.5)},
    "+ boundaries + Lovász": {"boundary": Boundary(), "lovasz": Lovasz(0.5)},
}
ARMS: dict[str, Recipe] = {
    "paper": PAPER,
    "modern": MODERN,
    **{name: replace(MODERN, loss=replace(MODERN.loss, **more)) for name, more in LOSSES.items()},
    "+ auxiliary head": replace(MODERN, auxiliary=(AuxHead("features"),)),
    "- averaged weights": replace(MODERN, ema=None),
    "wider scales": replace(MODERN, augment=replace(MODERN.augment, scale=(0.5, 2.0))),
    "cosine with warm-up": replace(MODERN, schedule=Cosine(warmup=1)),
}
TAUGHT = "+ distillation"


def teacher(epochs: int) -> Training:
    """The larger network, trained longer, once."""
    larger = replace(MODERN, model=Model("mininet_v2", {"dropout": 0.1}), epochs=epochs * 3 // 2)
    return Training("mininet_v2", "teacher", larger)


def trainings(names: Iterable[str], seeds: Iterable[int], epochs: int, out: Path) -> list[Training]:
    """The teacher if one is needed, then all arms of one seed after those of another."""
    names, plan = list(names), []
    recipes = dict(ARMS)
    if TAUGHT in names:
        plan.append(teacher(epochs))
        bundle = out.parent / "mininet_v2-teacher-0" / "best.safetensors"
        recipes[TAUGHT] = replace(MODERN, distill=Distill((str(bundle),)))
    for seed in seeds:
        plan += [Training("mininet_v2_cpu", name, replace(recipes[name], epochs=epochs, seed=seed)) for name in names]
    return plan


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: mIoU on val over seeds, in percent, and what each arm gains over `modern` seed by seed."""
    by_arm = {arm: several for (network, arm), several in arms(lines) if network == "mininet_v2_cpu"}
    base = {line["seed"]: line["val_last"] for line in by_arm.get("modern", [])}
    rows = [
        "| arm | seeds | val, last epoch | val, best epoch | gain over `modern`, same seed |",
        "|---|---|---|---|---|",
    ]
    for arm, several in by_arm.items():
        last, best = (spread([line[key] for line in several]) for key in ("val_last", "val_best"))
        gains = [line["val_last"] - base[line["seed"]] for line in several if line["seed"] in base]
        gain = spread(gains) if arm != "modern" and gains else ""
        rows.append(f"| {arm} | {len(several)} | {last} | {best} | {gain} |")
    return "\n".join(rows)


def main() -> None:
    """Trains what is missing, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*ARMS, TAUGHT]
    parser.add_argument("--arms", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--data-root", type=Path, help="folder of CamVid; $KERBSEG_DATA/camvid without it")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; what they hold is not trained again")
    parser.add_argument("--only-read", action="store_true", help="train nothing; show what the file holds")
    wanted = parser.parse_args()
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    plan = trainings(wanted.arms, wanted.seeds, wanted.epochs, wanted.out)
    print(table(read(wanted.out) if wanted.only_read else run_all(plan, wanted.out, wanted.data_root, tested=False)))


if __name__ == "__main__":
    main()
