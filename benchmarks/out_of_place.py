"""Which figure tells things that a network has never learned: probability, entropy, margin, largest logit or energy.

Classes are held out of a training on drawn scenes: their pixels are void in it, and in its val split. On the test split
the pixels of each held-out class are told from those of all that the network knows, by each figure alone. The network
has seen held-out things as unlabelled pixels at the edge of its views; pictures without any are a harder test, and
those are not drawn here. `--page` alone writes the page's table from the results, and measures nothing.
    python benchmarks/out_of_place.py --hold car,person,bus --json benchmarks/results/out_of_place.json
    python benchmarks/out_of_place.py --page docs/confidence.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from marked import between
from PIL import Image
from rich.console import Console
from rich.table import Table

from kerbseg.core.files import atomic_write
from kerbseg.core.types import VOID
from kerbseg.data.scenes import COUNTS, Scenes
from kerbseg.metrics.novelty import NOVELTY, separation
from kerbseg.profiling.machine import this_machine
from kerbseg.runtime import open_runtime, segment_with_logits
from kerbseg.train.fit import fit
from kerbseg.train.recipe_file import read

RESULTS = Path(__file__).parent / "results" / "out_of_place.json"
MARK = "out of place"
RECIPE = "smoke/scenes"
EVERY = 7  # of the known pixels, which are many


def write_folder(folder: Path, held: Sequence[str], count: int | None, size: tuple[int, int]) -> None:
    """Drawn scenes as a data set of their own, in which the held-out classes are no class."""
    labels = Scenes("train").labels
    known = [(i, name) for i, name in enumerate(labels.classes) if name not in held]
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir(parents=True)
        for sample in Scenes(split, count and min(count, COUNTS[split]), size):
            Image.fromarray(sample.image).save(folder / "images" / split / f"{sample.name}.png", compress_level=1)
            Image.fromarray(sample.mask).save(folder / "masks" / split / f"{sample.name}.png")
    document = {
        "name": "held_out",
        "classes": [{"name": name, "color": list(labels.colors[i]), "ids": [i]} for i, name in known],
        "ignore": [*(labels.classes.index(name) for name in held), VOID],
    }
    (folder / "dataset.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def looks(bundle: Any, held: Sequence[str], count: int | None, size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """How new the pixels of each held-out class look, and some of those of all others (known), by each figure."""
    labels, runtime = Scenes("test").labels, open_runtime(bundle)
    groups = {name: [labels.classes.index(name)] for name in held}
    groups["known"] = [i for i, name in enumerate(labels.classes) if name not in held]
    values: dict[str, dict[str, list[np.ndarray]]] = {name: {figure: [] for figure in NOVELTY} for name in groups}
    for sample in Scenes("test", count, size):
        _, logits_of = segment_with_logits(runtime, sample.image)
        for name, ids in groups.items():
            chosen = np.isin(sample.mask, ids)
            if name == "known":
                chosen &= np.arange(chosen.size).reshape(chosen.shape) % EVERY == 0
            if chosen.any():
                logits = logits_of(chosen)
                for figure, of in NOVELTY.items():
                    values[name][figure].append(of(logits))
    empty = np.zeros(0)
    return {name: {k: np.concatenate(v) if v else empty for k, v in each.items()} for name, each in values.items()}


def table(results: Mapping[str, Any]) -> str:
    """AUROC and false alarms of each figure in Markdown, and how they were measured."""
    held, how = results["held_out"], results["protocol"]
    lines = [f"| figure | {' | '.join(held)} |", f"|---|{'--:|' * len(held)}"]
    for figure in NOVELTY:
        cells = [
            f"{100 * auroc:.1f} / {100 * alarms:.1f}" for auroc, alarms in (each[figure] for each in held.values())
        ]
        lines.append(f"| {figure.replace('_', ' ')} | {' | '.join(cells)} |")
    height, width = how["size"]
    return "\n".join(lines) + (
        f"\n\nAUROC / known pixels that look as new where 95 % of the new ones do, in %. `{how['model']}`, one training"
        f" of {how['epochs']} epochs (mIoU of the known classes on val: {how['miou_of_known_classes_on_val']:.3f}),"
        f" {how['scenes']} drawn scenes of {width}x{height}, one seed; {how['processor']}, {how['date']}."
    )


def main() -> None:
    """Draws, trains, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hold", default="car,person,bus", help="classes of Cityscapes, separated by commas")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--scenes", type=int, help="only the first N scenes of each split")
    parser.add_argument("--size", default="256x512", help="HEIGHTxWIDTH of the scenes")
    parser.add_argument("--set", nargs="*", default=[], help="values of the recipe, KEY=VALUE")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="write its table from the results of the repository")
    arguments = parser.parse_args()
    if arguments.page is not None:
        text = arguments.page.read_text()
        arguments.page.write_text(between(text, MARK, table(json.loads(RESULTS.read_text()))))
        return
    held = arguments.hold.split(",")
    height, width = (int(n) for n in arguments.size.split("x"))
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder / "data", held, arguments.scenes, (height, width))
        changes = ["data.name=folder", f"epochs={arguments.epochs}", *arguments.set]
        bundle = fit(read(RECIPE, changes), folder / "run", data_root=folder / "data", device="cpu")
        values = looks(bundle, held, arguments.scenes, (height, width))
    known = values.pop("known")
    results: dict[str, Any] = {
        "protocol": {
            "held_out": held,
            "recipe": RECIPE,
            "epochs": arguments.epochs,
            "changes": arguments.set,
            "model": bundle.card.model,
            "miou_of_known_classes_on_val": bundle.card.scores.get("miou"),
            "scenes": arguments.scenes or COUNTS["test"],
            "size": [height, width],
            "known_pixels": len(known["probability"]),
            **this_machine().to_dict(),
        },
        "held_out": {},
    }
    told = {
        name: {figure: separation(known[figure], new[figure]) for figure in NOVELTY}
        for name, new in values.items()
        if len(new["probability"])
    }
    printed = Table("AUROC / FPR at 95 %, in %", *told)
    for figure in NOVELTY:
        cells = (f"{100 * each[figure].auroc:.1f} / {100 * each[figure].fpr95:.1f}" for each in told.values())
        printed.add_row(figure, *cells)
    for name, each in told.items():
        pixels = {"pixels": len(values[name]["probability"])}
        results["held_out"][name] = pixels | {figure: [one.auroc, one.fpr95] for figure, one in each.items()}
    Console(width=80).print(printed)
    if arguments.json:
        with atomic_write(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
