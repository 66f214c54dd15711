"""The search behind KerbNet: what each change of its design costs in milliseconds, in int8, before any is trained.

Every candidate is exported to OpenVINO int8 and timed by turns with all others, two ways: the network alone, and the
whole call from uint8 picture to ids. Candidates see some drawn scenes first, so that their classes meet where a
street's do. Shipped weights are timed as they are (`--shipped`). All of it takes minutes; with `--work` exported files
are kept, so that another run times them at once. Each run puts its figures into the JSON beside those of others, and
`--page` writes the tables of docs/kerbnet.md from them; without `--json` nothing is timed for that:
    python benchmarks/kerbnet.py --json benchmarks/results/kerbnet.json --work build/kerbnet
    python benchmarks/kerbnet.py --json benchmarks/results/kerbnet.json --shipped --size 360x480
    python benchmarks/kerbnet.py --page docs/kerbnet.md
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from marked import between
from safetensors.torch import load_file, save_file
from taught import taught
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.bundle import Bundle, load, locate, random_bundle
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes
from kerbseg.export.int8 import Quantizer
from kerbseg.models import SegmentationNet, create_model, list_models
from kerbseg.models.kerbnet import Downsample, Factorized, KerbNet, Merge, Project
from kerbseg.profiling.cost import cost
from kerbseg.profiling.latency import Budget
from kerbseg.profiling.workers import drawn_street, time_models
from kerbseg.runtime import RuntimeOptions
from kerbseg.runtime.engines import ENGINES

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS / "kerbnet.json"
SHIPPED = ("kerbnet_s-camvid", "kerbnet_m-camvid", "mininet_v2_cpu-camvid", "mininet_v2-camvid")
RIVALS = ("mininet_v2_cpu", "fast_scnn")  # timed beside
REFERENCE = "mininet_v2_cpu"
DILATIONS = (1, 2, 1, 4, 1, 8)
CALIBRATION = 3  # drawn scenes: enough for a clock
SCENE_SIZE = (96, 192)  # of those that candidates see first
LABELS = label_set("cityscapes")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")  # that decide what int8 gains


class Nearest(Merge):
    """Each deep feature four times in place of interpolated ones."""

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        return F.relu(F.interpolate(self.deep(deep), scale_factor=2) + self.shallow(shallow))


class Dense(nn.Module):
    """One 3x3 convolution in place of a 3x1 and a 1x3: half as much again to compute."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn(self.conv(x)))


class Separable(nn.Module):
    """A depthwise 3x3 convolution and a 1x1 in place of a 3x1 and a 1x3: a sixth of what there is to compute."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)
        self.pointwise = Project(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.pointwise(F.relu(self.bn(self.depthwise(x)))))


class Pooled(nn.Module):
    """ERFNet's downsampler: a strided convolution beside a pooling, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs - inputs, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(torch.cat([self.conv(x), F.max_pool2d(x, 2)], 1)))


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


def _unrefined(net: KerbNet) -> None:
    net.refine = nn.Identity()


def _dense(net: KerbNet) -> None:
    net.body = nn.Sequential(*(Dense(64, d) for d in DILATIONS))


def _separable(net: KerbNet) -> None:
    net.body = nn.Sequential(*(Separable(64, d) for d in DILATIONS))


def _pooled(net: KerbNet) -> None:
    net.stem = nn.Sequential(Pooled(3, 16), Pooled(16, 64))


def _nearest(net: KerbNet) -> None:
    net.merge = Nearest(64, 64, 32)


def _bottlenecks(net: KerbNet) -> None:
    net.body = nn.Sequential(*(Bottleneck(96, d) for d in DILATIONS))


def _pyramid(net: KerbNet) -> None:
    net.body = nn.Sequential(*net.body, Pyramid(64))


CANDIDATES: Mapping[str, Callable[[int], SegmentationNet]] = {
    "kerbnet_s": lambda classes: KerbNet(classes, 64, 32),
    "no module at 1/4": changed(_unrefined),
    "two modules at 1/4": changed(_refined_twice),
    "3x3 for 3x1 and 1x3": changed(_dense),
    "depthwise 3x3 and 1x1 for 3x1 and 1x3": changed(_separable),
    "pooling beside the stem's convolutions": changed(_pooled),
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


def kept(name: str, net: nn.Module, folder: Path, steps: int) -> nn.Module:
    """A network that has seen some drawn scenes; its weights stay in the folder for files of other sizes."""
    path = folder / f"{plain(name)}_{steps}.safetensors"
    if path.exists():
        net.load_state_dict(load_file(path))
        return net.eval()
    net = taught(net, len(LABELS), steps, SCENE_SIZE)
    with atomic_write(path) as temporary:
        save_file(net.state_dict(), temporary)
    return net


def plain(name: str) -> str:
    """As a file may be called."""
    return re.sub("[^a-z0-9_]+", "-", name)


def exported(name: str, bundle: Bundle, folder: Path, given: argparse.Namespace) -> Path:
    """A network's file, made where it is not there yet; what is not shipped sees drawn scenes first."""
    taught_for = "" if given.shipped else f"_{given.steps}"
    path = folder / f"{plain(name)}_{given.size[0]}x{given.size[1]}{taught_for}.xml"
    if not path.exists():
        print(f"exporting {path.stem}", flush=True)
        if not given.shipped:
            bundle = replace(bundle, model=kept(name, bundle.model, folder, given.steps))
        in_int8(bundle, path, given.size)
    return path


def measured(bundles: Mapping[str, Bundle], given: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One row a network, all timed by turns, and what the engine's processes say of themselves and of the machine."""
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
            "macs": cost(bundle.model, given.size).macs,
            "network_ms": timing.forward_only.median_ms,
            "call_ms": timing.call.median_ms,
        }
        for (name, bundle), timing in zip(bundles.items(), timings, strict=True)
    ]
    [reference] = [row for row in rows if row["network"].startswith(f"{REFERENCE}")]
    rows = [
        {**row, **{f"{what}_ratio": row[f"{what}_ms"] / reference[f"{what}_ms"] for what in ("network", "call")}}
        for row in rows
    ]
    return rows, timings[0].facts.to_dict()


def instructions() -> list[str] | None:
    """Which of the instructions that matter the processor has; None where the system does not say."""
    source = Path("/proc/cpuinfo")
    known = re.search(r"^(?:flags|Features)\s*:(.*)$", source.read_text() if source.exists() else "", re.MULTILINE)
    return None if known is None else [name for name in INSTRUCTIONS if name in known[1].split()]


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of one run, in the order of the run."""
    lines = [
        f"| int8 | parameters | GMACs | network, ms | call, ms | call to {REFERENCE} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"{row['parameters'] / 1e6:.3f} M", f"{row['macs'] / 1e9:.2f}", f"{row['network_ms']:.2f}"]
        cells += [f"{row['call_ms']:.2f}", f"{row['call_ratio']:.2f}"]
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def wide_by_high(size: str) -> str:
    """1024x512, as papers print a size, of 512x1024, as the JSON does."""
    height, width = size.split("x")
    return f"{width}x{height}"


def costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each network of a run costs, alone and as a whole call, and how that differs from kerbnet_s."""
    [base] = [row for row in rows if row["network"] == "kerbnet_s"]
    lines = [
        "| int8 | parameters | GMACs | network, ms | whole call, ms | change of the call |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [f"{row['parameters'] / 1e6:.3f} M", f"{row['macs'] / 1e9:.2f}"]
        cells += [f"{row['network_ms']:.2f}", f"{row['call_ms']:.2f}"]
        cells.append("" if row is base else f"{row['call_ms'] - base['call_ms']:+.2f}")
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sections(runs: Mapping[str, Any], table: Callable[[Sequence[Mapping[str, Any]]], str]) -> str:
    """A table a size."""
    return "\n\n".join(f"At {wide_by_high(size)}:\n\n{table(run['networks'])}" for size, run in runs.items())


def ratio(runs: Mapping[str, Any], size: str, name: str, to: str) -> float:
    """One whole call to another, of the same run."""
    [one] = [row["call_ms"] for row in runs[size]["networks"] if row["network"] == name]
    [other] = [row["call_ms"] for row in runs[size]["networks"] if row["network"] == to]
    return float(one / other)


def int8_loss(
    entry: Mapping[str, Any], logits: Mapping[str, Any] | None, pictures: str = ""
) -> tuple[float | None, str]:
    """What int8 loses on val, and on how many pictures it was calibrated: the zoo's figure, or that of byte logits."""
    if "int8" in entry:
        return entry["int8"]["miou_drop"], f", calibrated on {entry['int8']['protocol']['calibration_pictures']}"
    if logits is None:
        return None, ""
    return entry["val"]["miou"] - logits["miou"]["uint8"], f", calibrated on {pictures}"


def bars(figures: Mapping[str, Any], zoo: Mapping[str, Any], logits: Mapping[str, Any], pictures: str = "") -> str:
    """What was asked of the networks before they were trained, what was reached, and whether that is enough."""
    networks, rows = zoo["networks"], []

    def bar(what: str, asked: str, reached: str, enough: bool | None) -> None:
        verdict = "not measured" if enough is None else "yes" if enough else "**no**"
        rows.append(f"| {what} | {asked} | {reached} | {verdict} |")

    for source, ending in (("candidates", ""), ("shipped", "-camvid")):
        weights = "19 classes, barely trained" if source == "candidates" else "the shipped weights"
        for size, run in figures.get(source, {}).items():
            asked = [("kerbnet_s", REFERENCE, 0.45), ("kerbnet_s", "fast_scnn", 1.1)]
            if size == "512x1024":
                asked.append(("kerbnet_m", REFERENCE, 0.8))
            for name, to, most in asked:
                if any(row["network"] == f"{to}{ending}" for row in run["networks"]):
                    reached = ratio(figures[source], size, f"{name}{ending}", f"{to}{ending}")
                    what = f"{name}: whole call to {to}'s at {wide_by_high(size)}, {weights}"
                    bar(what, f"at most {most:.2f}", f"{reached:.2f}", reached <= most)
    reference = networks[f"{REFERENCE}-camvid"]["test"]["miou"]
    for name, more, words in (("kerbnet_s", -0.01, "one point less than"), ("kerbnet_m", 0.02, "two points more than")):
        miou, least = networks[f"{name}-camvid"]["test"]["miou"], reference + more
        what = f"{name}: mIoU on CamVid's test, {words} {REFERENCE}'s {reference:.4f}"
        bar(what, f"at least {least:.4f}", f"{miou:.4f}", miou >= least)
    for name in ("kerbnet_s", "kerbnet_m"):
        lost, how = int8_loss(networks[f"{name}-camvid"], logits.get(f"{name}-camvid"), pictures)
        what = f"{name}: mIoU on val that int8 loses{how}"
        bar(
            what,
            "at most 0.0040",
            "not measured" if lost is None else f"{lost:.4f}",
            None if lost is None else lost <= 0.004,
        )
    return "\n".join(["| what was asked | bar | reached | holds |", "|---|---:|---:|---|", *rows])


def tables(figures: Mapping[str, Any], results: Path = RESULTS) -> dict[str, str]:
    """What stands on the page between marks of these names; accuracies come from other results of the repository."""
    zoo, logits = (json.loads((results / f"{name}.json").read_text()) for name in ("zoo", "eightbit_logits"))
    pictures = str(logits["protocol"]["calibration_pictures"]).partition(";")[0]  # then come exceptions
    return {
        "candidates": sections(figures["candidates"], costs),
        "shipped": sections(figures["shipped"], shown),
        "bars": bars(figures, zoo, logits["networks"], pictures),
    }


def write_page(page: Path, figures: Mapping[str, Any]) -> None:
    """The page with its tables made anew."""
    text = page.read_text()
    for mark, table in tables(figures).items():
        text = between(text, mark, table)
    page.write_text(text)


def put(path: Path, what: str, size: tuple[int, int], run: Mapping[str, Any]) -> None:
    """One run's figures into a file, beside those of other runs, largest size first."""
    figures = json.loads(path.read_text()) if path.exists() else {}
    runs = {**figures.get(what, {}), f"{size[0]}x{size[1]}": run}
    figures[what] = {key: runs[key] for key in sorted(runs, key=lambda key: -int(key.split("x")[0]))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; those that would do nothing are an error."""
    given = parser.parse_args()
    if given.export_only and given.work is None:
        parser.error("--export-only fills the folder of --work; name one")
    return given


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(512, 1024))
    parser.add_argument("--steps", type=int, default=40, help="of training on drawn scenes")
    parser.add_argument("--threads", type=int, help="all without it")
    parser.add_argument("--seconds", type=float, default=60.0, help="of timing, shared by all")
    parser.add_argument("--work", type=Path, help="folder where exported files stay")
    parser.add_argument("--export-only", action="store_true", help="fill --work and time nothing")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", help="candidates and registered networks; the reference is always there")
    parser.add_argument("--shipped", action="store_true", help="shipped weights in place of candidates")
    parser.add_argument("--page", type=Path, help="write its tables from the results of the repository")
    given = parsed(parser)
    if given.page is not None and given.json is None:
        write_page(given.page, json.loads(FIGURES.read_text()))
        return
    names = dict.fromkeys([*(given.only or CANDIDATES), *(() if given.only else RIVALS), REFERENCE])
    if unknown := [name for name in names if name not in CANDIDATES and name not in list_models()]:
        parser.error(f"--only {unknown[0]}: no candidate and no registered network")
    bundles = {name: load(locate(name)) for name in SHIPPED} if given.shipped else {name: fresh(name) for name in names}
    if given.export_only:
        given.work.mkdir(parents=True, exist_ok=True)
        for name, bundle in bundles.items():
            exported(name, bundle, given.work, given)
        return
    rows, protocol = measured(bundles, given)
    print(shown(rows))
    if given.json is not None:
        protocol |= {"seconds": given.seconds, "picture": "a drawn street; all by turns"}
        protocol["instructions"] = instructions()
        protocol["weights"] = "shipped" if given.shipped else f"{given.steps} steps on drawn scenes, 19 classes"
        what = "shipped" if given.shipped else "candidates"
        put(given.json, what, given.size, {"protocol": protocol, "networks": rows})
        if given.page is not None:
            write_page(given.page, json.loads(given.json.read_text()))


if __name__ == "__main__":
    main()
