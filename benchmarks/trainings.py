"""Many small trainings, one after another: one JSON line for each; what stands there already is not trained again."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kerbseg.bundle import Bundle, load
from kerbseg.data import open_dataset
from kerbseg.data.loading import Resized
from kerbseg.evaluate import evaluate
from kerbseg.runtime.torch import TorchRuntime
from kerbseg.train.fit import fit
from kerbseg.train.recipe import Recipe


class Training(NamedTuple):
    """A recipe under the name it has in a table; its seed is the recipe's."""

    network: str
    arm: str
    recipe: Recipe
    initial: str | None = None  # weights that it starts from


def run_all(
    trainings: Iterable[Training], out: Path, data_root: Path | None, tested: bool = True
) -> list[dict[str, Any]]:
    """Trains what `out` lacks, adds it there, and gives all of its lines for these trainings.

    `tested` bundles are also evaluated on the test split, at the recipe's size.
    """
    lines = []
    for training in trainings:
        done = [line for line in read(out) if _key(line) == _key(_described(training))]
        lines.append(done[-1] if done else _run(training, out, data_root, tested))
    return lines


def read(out: Path) -> list[dict[str, Any]]:
    """The trainings that were done."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []


def run_folder(training: Training, out: Path) -> Path:
    """Where a training's bundles lie: beside its line, named by network, arm and seed."""
    return out.parent / f"{training.network}-{training.arm}-{training.recipe.seed}".replace(" ", "_").replace("/", "_")


def _described(training: Training) -> dict[str, Any]:
    recipe = training.recipe
    line = {"network": training.network, "arm": training.arm, "seed": recipe.seed, "recipe": recipe.to_dict()}
    return line if training.initial is None else line | {"initial": training.initial}


def _key(line: Mapping[str, Any]) -> str:
    return json.dumps([line["recipe"], line.get("initial")], sort_keys=True)


def _run(training: Training, out: Path, data_root: Path | None, tested: bool) -> dict[str, Any]:
    recipe = training.recipe
    run = run_folder(training, out)
    if run.exists():  # cut off: so small a training begins anew
        shutil.rmtree(run)
    start = time.monotonic()
    bundle = fit(recipe, run, data_root=data_root, initial=training.initial, device="cpu")
    trained_s = time.monotonic() - start
    last = load(run / "last.safetensors")
    line = {
        **_described(training),
        "parameters": sum(each.numel() for each in bundle.model.parameters()),
        "val_best": bundle.card.scores["miou"],
        "best_epoch": bundle.card.scores["epoch"],
        "val_last": last.card.scores["miou"],
        "trained_s": round(trained_s, 1),
        "threads": torch.get_num_threads(),
    }
    if tested:
        best = score(bundle, recipe, "test", data_root)
        line |= {"test_best": best, "test_last": score(last, recipe, "test", data_root)}
    with out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(f"{training.network} {training.arm} {recipe.seed}: {line['val_best']:.4f} in {trained_s:.0f} s", flush=True)
    return line


def score(bundle: Bundle, recipe: Recipe, split: str, data_root: Path | None) -> float | None:
    """mIoU on a whole split at the size that the recipe brings pictures to."""
    assert recipe.data.size is not None
    pictures = Resized(open_dataset(recipe.data.name, split, data_root), recipe.data.size)
    return evaluate(TorchRuntime(bundle), pictures).metrics.miou


def arms(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], list[Mapping[str, Any]]]]:
    """The lines of each network and arm, by seed."""
    by_arm: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        by_arm.setdefault((line["network"], line["arm"]), []).append(line)
    for key, several in by_arm.items():
        yield key, sorted(several, key=lambda line: line["seed"])


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in percent; one seed has no deviation."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean
