"""Pictures per second of `kerbseg train` in two source trees, by turns, and both curves.

    git worktree add ../before COMMIT
    python benchmarks/train_trees.py zoo/mininet_v2_cpu zoo/erfnet --against ../before/src --data-root DATA/camvid

Each recipe trains for three short epochs in each tree, a process each: the first in the recipe's first resolution, the
last in its last, so that all of a recipe's `progressive` is timed. A tree's pictures per second are those of the whole
recipe, each resolution as long as it lasts there. The sum at the end is of the seconds that one picture takes in every
recipe. Where the other tree knows other recipes, `--their-recipes` names files for it, in the same order.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from kerbseg.profiling.machine import this_machine
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read

HERE = Path(__file__).resolve().parent
UNTIMED = 1  # steps of an epoch, which make the kernels of its resolution


def shares(recipe: Recipe) -> list[float]:
    """How much of a recipe's epochs each of its resolutions lasts."""
    ends = [0.0, *(stage.until for stage in recipe.augment.progressive)]
    return [after - before for before, after in pairwise(ends)] or [1.0]


def overrides(recipe: Recipe, steps: int, stages_key: str) -> list[str]:
    """One epoch a resolution, of so many steps after the untimed ones, the last of them validated."""
    stages = recipe.augment.progressive
    changed = [f"epochs={max(1, len(stages))}", f"data.limit={(UNTIMED + steps) * recipe.batch_size}"]
    if stages:
        ends = [*((i + 0.5) / len(stages) for i in range(len(stages) - 1)), 1.0]  # between two epochs' beginnings
        short = [
            f"{{until: {ends[i]:.3f}, zoom: {stage.zoom}, crop: [{stage.crop[0]}, {stage.crop[1]}]}}"
            for i, stage in enumerate(stages)
        ]
        changed.append(f"augment.{stages_key}=[{', '.join(short)}]")
    return [*changed, f"validate_every={max(1, len(stages))}"]


def run(source: Path, arguments: list[str], threads: int) -> dict[str, Any]:
    """What a training took in a tree."""
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        known = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = known | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, str(HERE / "timed_training.py"), str(times), "train", *arguments]
        done = subprocess.run(
            [*command, "--out", f"{folder}/run", "--device", "cpu"], env=environment, capture_output=True, text=True
        )
        if done.returncode or not times.exists():
            raise SystemExit(f"{source}: {' '.join(arguments)} failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        content: dict[str, Any] = json.loads(times.read_text())
        if Path(content["tree"]) != source.resolve():
            raise SystemExit(f"{source} was asked for, and {content['tree']} has trained; give a folder with kerbseg/")
        said = [line for line in done.stdout.splitlines() if line.startswith("precision: ")]
        return content | {"precision": said[0].split()[1] if said else "as the recipe says"}


def seconds_a_picture(content: dict[str, Any], recipe: Recipe) -> list[float]:
    """Of each resolution: the median of the steps of its epoch, from one's beginning to the next one's."""
    medians = []
    for epoch in sorted(content["steps"], key=int):
        starts = content["steps"][epoch][UNTIMED:]
        medians.append(statistics.median(b - a for a, b in pairwise(starts)) / recipe.batch_size)
    return medians


def table(rows: list[dict[str, Any]]) -> str:
    """As it stands in docs/training-speed.md."""
    lines = ["| recipe | before | after | times | precision | validation |", "|---|---|---|---|---|---|"]
    for row in rows:
        before, after = row["before"], row["after"]
        lines.append(
            f"| `{row['recipe']}` | {1 / before['seconds']:.2f} | {1 / after['seconds']:.2f} |"
            f" {before['seconds'] / after['seconds']:.2f} | {after['precision']} |"
            f" {before['validation'] / after['validation']:.2f} |"
        )
    total = [sum(row[side]["seconds"] for row in rows) for side in ("before", "after")]
    lines.append(f"| seconds a picture, in sum | {total[0]:.3f} | {total[1]:.3f} | {total[0] / total[1]:.2f} | | |")
    return "\n".join(lines)


def main() -> None:
    """Measures by turns, prints, and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--against", type=Path, required=True, help="the other tree's src folder")
    parser.add_argument("--their-recipes", nargs="*", default=[], help="files for the other tree, in the same order")
    parser.add_argument("--stages-key", default="progressive", help="its name of augment.progressive")
    parser.add_argument("--set", nargs="*", default=[], help="keys to change in all recipes")
    parser.add_argument("--set-here", nargs="*", default=[], help="keys to change in this tree's recipes alone")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=3, help="timed ones of each resolution")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    theirs = options.their_recipes or options.recipes
    if len(theirs) != len(options.recipes):
        parser.error(f"{len(options.recipes)} recipes and {len(theirs)} of the other tree's; name as many")
    rows = []
    for name, other in zip(options.recipes, theirs, strict=True):
        recipe = read(name, [*options.set, *options.set_here])
        last = shares(recipe)
        runs: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
        for _ in range(options.rounds):
            for side, tree, file, keys, key in (
                ("before", options.against, other, options.set, options.stages_key),
                ("after", HERE.parent / "src", name, [*options.set, *options.set_here], "progressive"),
            ):
                changed = overrides(recipe, options.steps, key)
                arguments = [file, *keys, *changed, "--data-root", options.data_root]
                runs[side].append(run(tree, arguments, options.threads))
        row: dict[str, Any] = {"recipe": name}
        for side, contents in runs.items():
            each = [min(column) for column in zip(*(seconds_a_picture(c, recipe) for c in contents), strict=True)]
            row[side] = {
                "seconds": sum(share * seconds for share, seconds in zip(last, each, strict=True)),
                "seconds_by_resolution": each,
                "validation": min(end - start for c in contents for start, end in c["validations"]),
                "losses": contents[0]["losses"],
                "precision": contents[0]["precision"],
            }
        rows.append(row)
        print(f"{name}: {row['before']['seconds'] / row['after']['seconds']:.2f} times as fast; loss by epoch", end=" ")
        print("; ".join(" ".join(f"{loss:.3f}" for loss in row[side]["losses"]) for side in runs), flush=True)
    protocol = {
        "threads": options.threads,
        "steps": options.steps,
        "rounds": options.rounds,
        "set": options.set,
        "set_here": options.set_here,
        "load_average": os.getloadavg()[0],
        **this_machine("cpu").to_dict(),
    }
    print(f"\n{table(rows)}\n\npictures per second; {json.dumps(protocol)}")
    if options.json is not None:
        options.json.write_text(json.dumps({"protocol": protocol, "recipes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
