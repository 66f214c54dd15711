"""The search behind KerbNet, second half: designs that cost about the time of `kerbnet_s`, trained with several seeds.

Two questions, for docs/kerbnet.md. **Designs**: each is trained without one drive (0001TP, at dusk) and judged on that
drive and on val. **Teachers**: `kerbnet_s` on the whole train split, alone and beside a trained network whose logits it
follows, judged on val; the teachers have seen every drive of train, so that no drive is left to judge them on. All at
240x180 (WxH), far shorter than the training of weights that are shipped. What the folder of `--work` holds is not
trained again; `--page` writes the page's tables from the results, and trains nothing:
    python benchmarks/kerbnet_trained.py --work build/trained --json benchmarks/results/kerbnet_trained.json
    python benchmarks/kerbnet_trained.py --page docs/kerbnet.md
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from kerbnet import CANDIDATES, DILATIONS, changed, plain
from marked import between
from torch import Tensor, nn
from torch.nn import functional as F
from trainings import Training, run_all, run_folder, score

from kerbseg.bundle import load
from kerbseg.models import SegmentationNet, list_models
from kerbseg.models._registry import register
from kerbseg.models.kerbnet import KerbNet
from kerbseg.profiling.cost import cost
from kerbseg.profiling.machine import this_machine
from kerbseg.train.recipe_file import read

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS / "kerbnet_trained.json"
SIZE, CROP = (180, 240), (176, 240)  # of pictures, and of the canvas in training: a multiple of 16
LEFT_OUT = "0001TP"
COST = (512, 1024)  # of the pictures for which multiply-adds are counted


class Branched(nn.Module):
    """3x3, 3x1, 1x3 and 1x1 convolutions side by side in place of a 3x1 and a 1x3, one 3x3 when it is used."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        d, self.dilation = dilation, dilation
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    channels,
                    channels,
                    kernel,
                    padding=(d * (kernel[0] // 2), d * (kernel[1] // 2)),
                    dilation=d,
                    bias=False,
                ),
                nn.BatchNorm2d(channels),
            )
            for kernel in ((3, 3), (3, 1), (1, 3), (1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + sum(branch(x) for branch in self.branches))

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """One convolution for all branches: what is added to the input, with the batch-norms' running statistics."""
        channels, d = self.branches[0][0].in_channels, self.dilation
        one = nn.Conv2d(channels, channels, 3, padding=d, dilation=d)
        one.weight.zero_()
        one.bias.zero_()
        for conv, bn in self.branches:
            factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
            above, left = ((3 - size) // 2 for size in conv.kernel_size)
            one.weight += F.pad(conv.weight * factor[:, None, None, None], (left, left, above, above))
            one.bias += bn.bias - bn.running_mean * factor
        return one


def _branched(net: KerbNet) -> None:
    net.body = nn.Sequential(*(Branched(64, d) for d in DILATIONS))


BRANCHES = "branches, folded into 3x3"
DESIGNS: Mapping[str, Callable[[int], SegmentationNet]] = {
    name: CANDIDATES[name]
    for name in (
        "kerbnet_s",
        "no module at 1/4",
        "two modules at 1/4",
        "nearest in the merge",
        "depthwise 3x3 and 1x1 for 3x1 and 1x3",
        "bottlenecks, 96 at 1/8",
        "to 1/16, 64 and 128",
    )
} | {BRANCHES: changed(_branched)}
"""Those within 2 ms of kerbnet_s or quicker, and one that folds into a 3x3 (3 ms more)."""
ALONE = "alone"
TEACHERS = {ALONE: (), "mininet_v2": ("mininet_v2-camvid",), "erfnet": ("erfnet-camvid",)}
"""What kerbnet_s follows besides the labels."""


def registered(design: str) -> str:
    """The name under which recipes of this process find a design."""
    name = f"searched_{plain(design).replace('-', '_')}"
    if name not in list_models():

        def build(classes: int = 19) -> SegmentationNet:
            return DESIGNS[design](classes)

        build.__name__, build.__doc__ = name, f"KerbNet's search: {design}."
        costs = cost(DESIGNS[design](19), COST)
        register(paper="kerbnet", parameters=costs.parameters, macs=costs.macs, input=COST, stride=16, main=False)(
            build
        )
    return name


def training(kind: str, arm: str, seed: int, epochs: int) -> Training:
    """One of the trainings of `designs` or of `teachers`: the recipe of kerbnet_s's weights, small and short."""
    overrides = [f"data.size={list(SIZE)}", f"augment.crop={list(CROP)}", "augment.progressive=[]", f"epochs={epochs}"]
    overrides += ["ema=0.99", f"seed={seed}", "validate_every=1000"]  # averages of 0.999 would lag behind
    if kind == "designs":
        overrides += [f"model.name={registered(arm)}", "data.val=train"]
        overrides += [f"data.train_names=['!{LEFT_OUT}*']", f"data.val_names=['{LEFT_OUT}*']"]
    elif TEACHERS[arm]:
        overrides += [f"distill={{teacher: [{', '.join(TEACHERS[arm])}]}}"]
    return Training(kind, plain(arm), read("zoo/kerbnet_s", overrides))


def plan(seeds: Iterable[int], epochs: int) -> list[tuple[str, str, Training]]:
    """All trainings of one seed after those of another, so that what is there can be compared at any time."""
    arms = [("designs", arm) for arm in DESIGNS] + [("teachers", arm) for arm in TEACHERS]
    return [(kind, arm, training(kind, arm, seed, epochs)) for seed in seeds for kind, arm in arms]


def trained(kind: str, arm: str, one: Training, out: Path, data_root: Path | None) -> dict[str, Any]:
    """A training's figures: mIoU of the last epoch's averaged weights on val, and on the drive that was left out."""
    [line] = run_all([one], out, data_root, tested=False)
    bundle = load(run_folder(one, out) / "last.safetensors")
    row = {"kind": kind, "arm": arm, "seed": one.recipe.seed, "parameters": line["parameters"]}
    if kind == "designs":
        row |= {"left_out": line["val_last"], "val": score(bundle, one.recipe, "val", data_root)}
    else:
        row |= {"val": line["val_last"]}
    return row | {"trained_s": line["trained_s"], "threads": line["threads"]}


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds, as the page prints mIoU; of one seed there is no deviation."""
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def table(rows: Sequence[Mapping[str, Any]], kind: str, calls: Mapping[str, float]) -> str:
    """The arms of a kind, with the time of a whole call where it was measured, and the gain over the first arm."""
    several: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["kind"] == kind:
            several.setdefault(row["arm"], []).append(row)
    first = next(iter(several))
    judged = ("left_out", "val") if kind == "designs" else ("val",)
    heads = {"left_out": f"unseen drive {LEFT_OUT}", "val": "val"}
    columns = [("design" if kind == "designs" else "kerbnet_s beside"), "seeds"]
    columns += [words for key in judged for words in (heads[key], "gain, seed by seed")]
    columns += ["whole call, ms"] if kind == "designs" else []
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for arm, group in several.items():
        cells = [arm, str(len(group))]
        for key in judged:
            base = {each["seed"]: each[key] for each in several[first]}
            gains = [each[key] - base[each["seed"]] for each in group if each["seed"] in base]
            cells += [spread([each[key] for each in group])]
            cells += ["" if arm == first else ", ".join(f"{gain:+.3f}" for gain in gains)]
        if kind == "designs":
            timed_as = "3x3 for 3x1 and 1x3" if arm == BRANCHES else arm
            cells.append(f"{calls[timed_as]:.1f}" if timed_as in calls else "not measured")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(figures: Mapping[str, Any], results: Path = RESULTS) -> dict[str, str]:
    """What stands on the page between marks of these names; times come from the results of the first half."""
    timed = json.loads((results / "kerbnet.json").read_text())["candidates"]["512x1024"]["networks"]
    calls = {row["network"]: row["call_ms"] for row in timed}
    return {kind: table(figures["trainings"], kind, calls) for kind in ("designs", "teachers")}


def write_page(page: Path, figures: Mapping[str, Any]) -> None:
    """The page with its tables made anew."""
    text = page.read_text()
    for mark, inside in tables(figures).items():
        text = between(text, mark, inside)
    page.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--kinds", nargs="+", choices=["designs", "teachers"], default=["designs", "teachers"])
    parser.add_argument(
        "--only", nargs="+", choices=[*DESIGNS, *TEACHERS], help="these designs and teachers; all without"
    )
    parser.add_argument("--data-root", type=Path, help="folder of CamVid; $KERBSEG_DATA/camvid without it")
    parser.add_argument("--work", type=Path, help="folder where trainings stay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="write its tables from the results of the repository")
    given = parser.parse_args()
    if given.page is not None:
        write_page(given.page, json.loads(FIGURES.read_text()))
        return
    if given.work is None:
        parser.error("--work names the folder where trainings stay, so that a cut-off run can go on; give one")
    asked = [each for each in plan(given.seeds, given.epochs) if each[0] in given.kinds]
    asked = [each for each in asked if given.only is None or each[1] in given.only]
    if lost := set(given.only or ()) - {arm for _, arm, _ in asked}:
        parser.error(f"--only {min(lost)}: it is not among --kinds {' '.join(given.kinds)}")
    given.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind, arm, one in asked:
        rows.append(trained(kind, arm, one, given.work / f"{kind}.jsonl", given.data_root))
        if given.json is not None:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps({"protocol": protocol(given.epochs), "trainings": rows}, indent=1) + "\n")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        print(table(rows, kind, {}))


def protocol(epochs: int) -> dict[str, Any]:
    """What the figures depend on."""
    return this_machine().to_dict() | {
        "data": "camvid",
        "size": list(SIZE),
        "label_size": list(SIZE),
        "epochs": epochs,
        "recipe": "zoo/kerbnet_s, no progressive sizes, ema 0.99",
        "left_out": LEFT_OUT,
        "weights": "the last epoch's averaged ones",
        "precision": "float32",
        "tta": None,
    }


if __name__ == "__main__":
    main()
