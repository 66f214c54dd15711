"""The search behind KerbNet: what each change of its design costs in milliseconds, in int8, before any is trained.

Every candidate is exported to OpenVINO int8 and timed by turns with all others, two ways: the network alone, and the
whole call from uint8 picture to ids. Candidates see some drawn scenes first, so that their classes meet where a
street's do. Shipped weights are timed as they are (`--shipped`). All of it takes minutes; with `--work` exported files
are kept, so that another run times them at once:
    python benchmarks/kerbnet.py --json kerbnet.json --work build/kerbnet
    python benchmarks/kerbnet.py --json shipped.json --shipped --size 360x480
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from taught import taught
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.bundle import Bundle, load, locate, random_bundle
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes
from kerbseg.export.int8 import Quantizer
from kerbseg.models import SegmentationNet, create_model, list_models
from kerbseg.models.kerbnet import Downsample, Factorized, KerbNet, Merge, Project
from kerbseg.profiling.latency import Budget
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import drawn_street, time_models
from kerbseg.runtime import RuntimeOptions
from kerbseg.runtime.engines import ENGINES

SHIPPED = ("kerbnet_s-camvid", "kerbnet_m-camvid", "mininet_v2_cpu-camvid", "mininet_v2-camvid")
RIVALS = ("mininet_v2_cpu", "fast_scnn")  # of which those that are registered are timed beside
REFERENCE = "mininet_v2_cpu"
DILATIONS = (1, 2, 1, 4, 1, 8)
CALIBRATION = 8  # drawn scenes
LABELS = label_set("cityscapes")


class Nearest(Merge):
    """Each deep feature four times in place of interpolated ones."""

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return F.relu(F.interpolate(self.deep(deep), scale_factor=2) + self.shallow(shallow))


class Bottleneck(nn.Module):
    """A factorized module at half the width between two 1x1 convolutions."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        half = channels // 2
        self.reduce, self.expand = Project(channels, half), Project(half, channels)
        self.body = Factorized(half, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(self.body(F.relu(self.reduce(x)))))


class Pyramid(nn.Module):
    """Dilated views side by side, added, as a pyramid with no concatenation."""

    def __init__(self, channels: int, dilations: tuple[int, ...] = (3, 6, 9)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=d, dilation=d, bias=False), nn.BatchNorm2d(channels))
            for d in dilations
        )

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for branch in self.branches:
            total = total + branch(x)
        return F.relu(total)


class Shuffled(KerbNet):
    """No merge: four logits a class and cell at 1/8 become a 2x2 block of cells."""

    def __init__(self, classes: int, wide: int) -> None:
        super().__init__(classes, wide, 32)
        self.merge, self.refine = nn.Identity(), nn.Identity()
        self.head = nn.Conv2d(wide, classes * 4, 1)

    def logits(self, image: Tensor) -> Tensor:
        return F.pixel_shuffle(self.head(self.body(self.down(self.stem(image)))), 2)


class AtHalf(KerbNet):
    """Logits at 1/2, from the features at 1/4 and the first map."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, 64, 32)
        self.second, self.head = Merge(32, 16, 16), nn.Conv2d(16, classes, 1)

    def logits(self, image: Tensor) -> Tensor:
        first = self.stem[0](image)
        skip = self.stem[1](first)
        deep = self.refine(self.merge(self.body(self.down(skip)), skip))
        return self.head(self.second(deep, first))


class ToSixteenth(KerbNet):
    """Most of the body at 1/16, brought back to 1/8 before the merge."""

    def __init__(self, classes: int, wide: int, deep: int) -> None:
        super().__init__(classes, wide, 32, (1, 2))
        self.further = nn.Sequential(Downsample(wide, deep), *(Factorized(deep, d) for d in (1, 2, 1, 4)))
        self.back = Merge(deep, wide, wide)

    def logits(self, image: Tensor) -> Tensor:
        skip = self.stem(image)
        eighth = self.body(self.down(skip))
        return self.head(self.refine(self.merge(self.back(self.further(eighth), eighth), skip)))


def changed(change: Callable[[KerbNet], None], wide: int = 64, narrow: int = 32) -> Callable[[int], KerbNet]:
    """KerbNet with one part exchanged."""

    def make(classes: int) -> KerbNet:
        net = KerbNet(classes, wide, narrow)
        change(net)
        return net

    return make


def _refined_twice(net: KerbNet) -> None:
    net.refine = nn.Sequential(Factorized(32), Factorized(32, 2))


def _nearest(net: KerbNet) -> None:
    net.merge = Nearest(64, 64, 32)


def _bottlenecks(net: KerbNet) -> None:
    net.body = nn.Sequential(*(Bottleneck(96, d) for d in DILATIONS))


def _pyramid(net: KerbNet) -> None:
    net.body = nn.Sequential(*net.body, Pyramid(64))


CANDIDATES: Mapping[str, Callable[[int], SegmentationNet]] = {
    "kerbnet_s": lambda classes: KerbNet(classes, 64, 32),
    "two modules at 1/4": changed(_refined_twice),
    "nearest in the merge": changed(_nearest),
    "bottlenecks, 96 at 1/8": changed(_bottlenecks, 96),
    "96 at 1/8, shuffled head": lambda classes: Shuffled(classes, 96),
    "96 and 32": lambda classes: KerbNet(classes, 96, 32),
    "pyramid before the merge": changed(_pyramid),
    "logits at 1/2": AtHalf,
    "to 1/16, 64 and 128": lambda classes: ToSixteenth(classes, 64, 128),
    "kerbnet_m": lambda classes: KerbNet(classes, 112, 48),
    "128 and 32": lambda classes: KerbNet(classes, 128, 32),
    "ten modules of 96, 48": lambda classes: KerbNet(classes, 96, 48, (1, 2, 1, 4, 1, 8, 1, 2, 1, 4)),
}
"""By what they change; the first is the design that was taken."""


def fresh(name: str) -> Bundle:
    """A candidate, or a registered network, with random weights."""
    torch.manual_seed(0)
    classes = len(LABELS)
    net = CANDIDATES[name](classes) if name in CANDIDATES else create_model(name, classes)
    known = name if name in list_models() else "kerbnet_s"  # for the card alone
    return Bundle(net, random_bundle(known, LABELS).card)


def in_int8(bundle: Bundle, path: Path, size: tuple[int, int]) -> None:
    """Writes it in int8, calibrated on drawn scenes, with logits of a byte each."""
    scenes = Scenes("train", CALIBRATION, size, seed=1)
    bundle = replace(bundle, card=replace(bundle.card, input_size=size))
    quantizer = Quantizer.of_bundle(bundle, ENGINES["openvino"], size, scenes)
    quantizer.save(quantizer.with_uint8_logits(quantizer.quantize_all()), path)


def macs(net: nn.Module, size: tuple[int, int]) -> int:
    """Multiply-accumulates of convolutions on one picture."""
    total = 0

    def add(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    hooks = [each.register_forward_hook(add) for each in net.modules() if isinstance(each, nn.Conv2d)]
    with torch.no_grad():
        net(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return total


def exported(name: str, bundle: Bundle, folder: Path, given: argparse.Namespace) -> Path:
    """A network's file, made where it is not there yet; what is not shipped sees drawn scenes first."""
    size = f"{given.size[0]}x{given.size[1]}"
    path = folder / f"{re.sub('[^a-z0-9_]+', '-', name)}_{size}_{given.steps}.xml"
    if not path.exists():
        print(f"exporting {name} at {size}", flush=True)
        if not given.shipped:
            bundle = replace(bundle, model=taught(bundle.model, len(LABELS), given.steps))
        in_int8(bundle, path, given.size)
    return path


def measured(bundles: Mapping[str, Bundle], given: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a network, all timed by turns."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = [exported(name, bundle, folder, given) for name, bundle in bundles.items()]
        options = [RuntimeOptions(threads=given.threads)] * len(files)
        picture = drawn_street(given.size)
        budget = Budget(seconds=given.seconds)
        timings = time_models([str(file) for file in files], options, [picture] * len(files), budget)
    rows = [
        {
            "network": name,
            "parameters": sum(each.numel() for each in bundle.model.parameters()),
            "macs": macs(bundle.model, given.size),
            "network_ms": timing.forward_only.median_ms,
            "call_ms": timing.call.median_ms,
        }
        for (name, bundle), timing in zip(bundles.items(), timings, strict=True)
    ]
    [reference] = [row for row in rows if row["network"].startswith(f"{REFERENCE}")]
    return [
        {**row, **{f"{what}_ratio": row[f"{what}_ms"] / reference[f"{what}_ms"] for what in ("network", "call")}}
        for row in rows
    ]


def shown(rows: list[dict[str, Any]]) -> str:
    """A table for a terminal, and for docs/kerbnet.md."""
    lines = [
        f"| int8 | parameters | GMACs | network, ms | call, ms | call to {REFERENCE} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"{row['parameters'] / 1e6:.3f} M", f"{row['macs'] / 1e9:.2f}", f"{row['network_ms']:.2f}"]
        cells += [f"{row['call_ms']:.2f}", f"{row['call_ratio']:.2f}"]
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(512, 1024))
    parser.add_argument("--steps", type=int, default=60, help="of training on drawn scenes")
    parser.add_argument("--threads", type=int, help="all without it")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, shared by all")
    parser.add_argument("--only", nargs="*", help="candidates and registered networks; the reference is always there")
    parser.add_argument("--shipped", action="store_true", help="shipped weights in place of candidates")
    parser.add_argument("--work", type=Path, help="folder where exported files stay")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names = dict.fromkeys([*(given.only or CANDIDATES), *(() if given.only else RIVALS), REFERENCE])
    known = {name: None for name in names if name in CANDIDATES or name in list_models()}
    bundles = {name: load(locate(name)) for name in SHIPPED} if given.shipped else {name: fresh(name) for name in known}
    rows = measured(bundles, given)
    print(shown(rows))
    if given.json is not None:
        threads = given.threads or this_machine().cores
        protocol = {**this_machine().to_dict(), "size": list(given.size), "threads": threads, "precision": "int8"}
        protocol["picture"] = "a drawn street; all by turns"
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({"protocol": protocol, "networks": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
