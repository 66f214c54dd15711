"""Pictures per second of all families on a processor, by engine: one table, one plot, one JSON.

Every engine has a process of its own, and all engines of one network and size are timed by turns. A call goes from a
uint8 picture to uint8 class ids of its size, batch 1. `torch-eager` is plain torch: contiguous NCHW, no compiler. The
bundles given with --bundle have their own weights; other networks have random weights whose batch-norms have seen
pictures, since raw random ones can fill a network with denormals. int8 is calibrated on drawn streets; with --data the
bundles that know its classes are calibrated on its train split, and evaluated on its val split in float and in int8.
The same run measures the machine's ceilings: float and int8 arithmetic of a large convolution, and memory.
Example: python benchmarks/cpu.py --bundle mininet_v2_cpu-camvid --data camvid --json cpu.json --plot cpu.png
`--page docs/deployment.md` writes that page's table of the networks of other houses from the results of the repository,
and measures nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from marked import between
from rich.console import Console
from rich.table import Table

import kerbseg.models as models
from kerbseg.bundle import Bundle, load, random_bundle, save
from kerbseg.core.extras import first_missing
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import label_set
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate
from kerbseg.export.int8 import Quantizer
from kerbseg.export.parity import pictures_of
from kerbseg.profiling.cost import cost
from kerbseg.profiling.latency import Budget, Latency, interleaved, timed
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import Ready, drawn_street, of_model, worker
from kerbseg.runtime import ENGINES, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import exporting
from kerbseg.runtime.openvino import core, openvino

SIZES = ((256, 512), (360, 640), (512, 1024))
MODELS = (  # one of each family, the quick ones first
    "mininet_v2_cpu",
    "mininet_v2",
    "erfnet",
    "liteseg_mobilenet_v2",
    "efficientseg",
    "enet",
    "espnet",
    "erfnet_dg2_light",
    "segnet_basic",
    "unet_minicity",
)
REFERENCE = "torch-eager"
INT8 = "openvino-int8"
RUNS = {  # name: file it runs, engine
    name: (f"m{ENGINES[name].suffix}", name) for name in sorted(ENGINES, key=lambda name: name != REFERENCE)
} | {INT8: ("int8.xml", "openvino")}
WARM_UP = 3  # calls
MODERN = Path(__file__).parent / "results" / "cpu_modern.json"


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do, measured."""

    float32_gmacs: float  # 10^9 multiply-accumulates a second
    int8_gmacs: float
    memory_gbs: float  # 10^9 bytes a second, read and written

    def floor_ms(self, bundle: Bundle, size: tuple[int, int], int8: bool) -> float:
        """The time that arithmetic and memory alone would take, whichever is longer.

        Of memory only each layer's result is counted, written once and read once; what an engine keeps in its cache is
        counted too, so that the floor is rough for small pictures.
        """
        of_net = cost(bundle.model, models.padded_size(size, models.card(bundle.card.model).stride))
        arithmetic = of_net.macs / (self.int8_gmacs if int8 else self.float32_gmacs)
        values = sum(int(np.prod(layer.output)) for layer in of_net.layers if layer.macs)
        memory = 2 * values * (1 if int8 else 4) / self.memory_gbs
        return max(arithmetic, memory) / 1e6


@dataclass(frozen=True)
class Row:
    """One network at one size on one engine."""

    model: str
    size: tuple[int, int]
    engine: str
    latency: Latency
    versions: Mapping[str, str]  # of what ran in its process
    floor_ms: float
    weights: str
    miou: float | None  # on the val split of --data, at this size


def installed() -> list[str]:
    """The names in RUNS whose packages are there."""
    extras = {name: [ENGINES[engine].extra, *(["int8"] if name == INT8 else [])] for name, (_, engine) in RUNS.items()}
    return [name for name, needs in extras.items() if not any(extra and first_missing(extra) for extra in needs)]


def with_statistics(name: str) -> Bundle:
    """A registered network of random weights whose batch-norms have seen drawn streets."""
    torch.manual_seed(0)
    bundle = random_bundle(name, label_set("cityscapes"))
    for module in bundle.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.3
    shown = torch.from_numpy(np.stack(pictures_of(Scenes("train"), (128, 256), 4)))
    bundle.model.train()
    with torch.no_grad():
        for _ in range(6):
            bundle.model(Normalize(bundle.card.preprocessing)(to_unit(shown)))
    bundle.model.eval()
    return bundle


def prepare(
    bundle: Bundle, size: tuple[int, int], folder: Path, engines: Sequence[str], calibration: Dataset | None = None
) -> None:
    """Writes the files that the engines run."""
    save(bundle, folder / "m.safetensors")
    for suffix, writing in exporting().items():
        if any(RUNS[engine][0] == f"m{suffix}" for engine in engines):
            writing.writer()(bundle, folder / f"m{suffix}", size)
    if INT8 in engines:
        quantizer = Quantizer.of_bundle(bundle, exporting()[".xml"], size, calibration or Scenes("train", 32, size))
        quantizer.save(quantizer.with_uint8_logits(quantizer.quantize_all()), folder / "int8.xml")


def miou_of(folder: Path, engine: str, data: Dataset | None) -> float | None:
    """mIoU of what an engine runs; engines in float run the same network, so that one stands for all."""
    if data is None:
        return None
    file = "int8.xml" if "int8" in engine else "m.xml" if (folder / "m.xml").exists() else "m.safetensors"
    return evaluate(open_runtime(folder / file), data).metrics.miou


def measured(
    bundle: Bundle,
    size: tuple[int, int],
    engines: Sequence[str],
    threads: int,
    runs: int,
    ceilings: Ceilings,
    data: tuple[Dataset, Dataset] | None,
) -> list[Row]:
    """All engines of one network and size, by turns; calibrated and evaluated on `data`, if there is any."""
    train, val = data or (None, None)
    picture = drawn_street(size)
    weights = bundle.card.source or "of the bundle"
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        prepare(bundle, size, folder, engines, train)
        workers = [
            stack.enter_context(worker(of_model, str(folder / file), RuntimeOptions(engine, threads=threads), picture))
            for file, engine in (RUNS[name] for name in engines)
        ]
        latencies = interleaved([one.batch("call") for one in workers], Budget(runs=runs), WARM_UP)
        kinds = {int8: miou_of(folder, "int8" if int8 else "float", val) for int8 in {"int8" in one for one in engines}}
    return [
        Row(
            bundle.card.model,
            size,
            engine,
            latency,
            one.facts.machine.versions,
            ceilings.floor_ms(bundle, size, "int8" in engine),
            weights,
            kinds["int8" in engine],
        )
        for engine, latency, one in zip(engines, latencies, workers, strict=True)
    ]


def arithmetic(threads: int, int8: bool, kernel: int) -> Ready:
    """A large convolution in OpenVINO, 256 to 256 channels on 64x64 pixels, and its multiply-accumulates."""
    ov = openvino()
    op = ov.opset13

    def quantized(value: Any, low: float, high: float, levels: int) -> Any:
        if not int8:
            return value
        return op.fake_quantize(value, *(np.float32(bound) for bound in (low, high, low, high)), levels)

    random, shape = np.random.default_rng(0), (1, 256, 64, 64)
    image = op.parameter(shape, np.float32)
    weights = op.constant(random.standard_normal((256, 256, kernel, kernel)).astype(np.float32))
    pads = [kernel // 2] * 2
    out = op.convolution(quantized(image, 0, 1, 256), quantized(weights, -4, 4, 255), [1, 1], pads, pads, [1, 1])
    out = op.relu(quantized(out, -50, 50, 256))  # quantized too, as between the layers of a network
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core().compile_model(ov.Model([out], [image]), "CPU", settings).create_infer_request()
    picture = random.random(shape, np.float32)
    request.infer([picture])
    macs = 256 * 256 * kernel**2 * 64 * 64
    return Ready(macs, {"call": timed(lambda: request.infer([picture], share_inputs=True))})


def memory(threads: int) -> Ready:
    """A copy of 256 MB."""
    torch.set_num_threads(threads)
    source = torch.ones(64 << 20)
    target = torch.empty_like(source)
    return Ready(2 * source.nbytes, {"call": timed(lambda: target.copy_(source))})


def ceilings_of(threads: int) -> Ceilings:
    """The machine's, by turns; of arithmetic the better of two kinds of convolution."""
    with ExitStack() as stack:
        jobs = [(int8, kernel) for int8 in (False, True) for kernel in (1, 3)]
        workers = [stack.enter_context(worker(arithmetic, threads, *job)) for job in jobs]
        workers.append(stack.enter_context(worker(memory, threads)))
        latencies = interleaved([one.batch("call") for one in workers], Budget(runs=30), WARM_UP)
    rates = [one.facts / latency.median_ms / 1e6 for one, latency in zip(workers, latencies, strict=True)]
    return Ceilings(max(rates[:2]), max(rates[2:4]), rates[4])


LOGITS, FULL = (1, 19, 128, 256), (512, 1024)


def street_logits() -> np.ndarray:
    """Logits as a trained network has them: regions of a street, soft along their borders, with a little noise."""
    mask = torch.from_numpy(Scenes("test", size=(128, 256))[0].mask).long()
    known = torch.where(mask < 19, mask, 0)
    regions = torch.nn.functional.one_hot(known, 19).permute(2, 0, 1)[None].float()
    soft = torch.nn.functional.avg_pool2d(regions, 3, 1, 1)
    noise = torch.randn(LOGITS, generator=torch.Generator().manual_seed(0))
    return (10 * soft + 0.3 * noise).numpy()


def our_last_stage(threads: int) -> Ready:
    """Ids from logits as the exported runtimes make them."""
    from kerbseg.runtime.upsample_argmax import UpsampleArgmax

    logits = np.ascontiguousarray(street_logits().transpose(0, 2, 3, 1))
    stage = UpsampleArgmax((LOGITS[2], LOGITS[3]), FULL, False, FULL, threads)
    return Ready(stage(logits), {"call": timed(lambda: stage(logits))})


def openvino_last_stage(threads: int) -> Ready:
    """The same by OpenVINO's interpolation and TopK, converted from torch's."""
    ov = openvino()

    class UpsampleArgmax(torch.nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            full = torch.nn.functional.interpolate(logits, FULL, mode="bilinear")
            return full.argmax(1).to(torch.uint8)

    logits = street_logits()
    model = ov.convert_model(UpsampleArgmax(), example_input=torch.from_numpy(logits), input=LOGITS)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    request.infer([logits])
    return Ready(request.get_output_tensor(0).data.copy(), {"call": timed(lambda: request.infer([logits]))})


def torch_last_stage(threads: int) -> Ready:
    """The same in torch."""
    torch.set_num_threads(threads)
    logits = torch.from_numpy(street_logits())

    @torch.inference_mode()
    def call() -> torch.Tensor:
        return torch.nn.functional.interpolate(logits, FULL, mode="bilinear").argmax(1).to(torch.uint8)

    return Ready(call().numpy(), {"call": timed(call)})


def last_stage(threads: int, runs: int) -> dict[str, Any]:
    """Time of the last stage at 512x1024 (HxW) with 19 classes, and the share of ids that agree with torch's."""
    ways = {"kerbseg": our_last_stage, "openvino": openvino_last_stage, "torch": torch_last_stage}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(way, threads)) for name, way in ways.items()}
        latencies = interleaved([one.batch("call") for one in workers.values()], Budget(runs=runs))
        reference = workers["torch"].facts
        return {
            name: latency.to_dict() | {"equal_to_torch": float((one.facts == reference).mean())}
            for (name, one), latency in zip(workers.items(), latencies, strict=True)
        }


def table(rows: Sequence[Row]) -> Table:
    """Pictures per second, speed-up over plain torch, and the share of the time that the ceilings explain."""
    shown = Table(
        "network",
        "size (HxW)",
        "engine",
        "median ms",
        "p95 ms",
        "pictures/s",
        "x torch-eager",
        "of ceiling",
        "val mIoU",
    )
    eager = {(row.model, row.size): row.latency.median_ms for row in rows if row.engine == REFERENCE}
    for row in rows:
        base = eager.get((row.model, row.size))
        shown.add_row(
            row.model,
            f"{row.size[0]}x{row.size[1]}",
            row.engine,
            f"{row.latency.median_ms:.2f}",
            f"{row.latency.p95_ms:.2f}",
            f"{1e3 / row.latency.median_ms:.1f}",
            "not measured" if base is None else f"{base / row.latency.median_ms:.2f}",
            f"{row.floor_ms / row.latency.median_ms:.0%}",
            "not measured" if row.miou is None else f"{row.miou:.4f}",
        )
    return shown


def page_table(results: Mapping[str, Any]) -> str:
    """A row a network and size, a column an engine: milliseconds, and how often as fast as plain torch."""
    rows = results["rows"]
    engines = [name for name in RUNS if any(row["engine"] == name for row in rows)]
    lines = [
        f"| network | size (WxH) | {' | '.join(engines)} | int8, of ceiling |",
        "|---|---|" + "--:|" * (len(engines) + 1),
    ]
    for model, size in dict.fromkeys((row["model"], tuple(row["size"])) for row in rows):
        of_it = {row["engine"]: row for row in rows if (row["model"], tuple(row["size"])) == (model, size)}
        base = of_it[REFERENCE]["latency"]["median"]
        cells = [f"{base:.1f} ms"]
        for engine in engines[1:]:
            median = of_it[engine]["latency"]["median"]
            cells.append(f"{median:.1f} ms ({base / median:.2f}x)")
        cells.append(f"{of_it[INT8]['floor_ms'] / of_it[INT8]['latency']['median']:.0%}".replace("%", " %"))
        lines.append(f"| {model} | {size[1]}x{size[0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """The page with its table made anew."""
    page.write_text(between(page.read_text(), MODERN.stem, page_table(results)))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Accuracy against latency: one point an engine and size, of the networks that were evaluated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    markers = dict(zip(RUNS, itertools.cycle("osv^DP"), strict=False))
    known = [row for row in rows if row.miou is not None]
    kinds = list(dict.fromkeys((row.model, row.size) for row in known))
    colors = {kind: f"C{number}" for number, kind in enumerate(kinds)}
    for row in known:
        axes.plot(row.latency.median_ms, row.miou, markers[row.engine], color=colors[row.model, row.size])
    for engine in dict.fromkeys(row.engine for row in known):
        axes.plot([], [], markers[engine], color="0.3", label=engine)
    for (model, size), color in colors.items():
        axes.plot([], [], "-", color=color, lw=4, label=f"{model} {size[1]}x{size[0]}")
    axes.set(xscale="log", xlabel="milliseconds a picture (median, batch 1)", ylabel="mIoU on val")
    axes.legend(fontsize=7, ncols=2)
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", default=[], help="a bundle to time with its own weights")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="registered names without a bundle")
    parser.add_argument("--sizes", nargs="*", default=["x".join(map(str, size)) for size in SIZES], help="HxW")
    parser.add_argument("--engines", nargs="*", choices=list(RUNS), help="those that are installed, if left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--data", help="data set to calibrate and evaluate the bundles on")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="accuracy against latency; needs --data")
    parser.add_argument("--page", type=Path, help="write its table from the results of the repository")
    arguments = parser.parse_args()
    if arguments.page is not None:
        write_page(arguments.page, json.loads(MODERN.read_text()))
        return
    engines = installed() if arguments.engines is None else arguments.engines
    console = Console(width=140)
    if left_out := [name for name in RUNS if name not in engines]:
        console.print(f"not timed: {', '.join(left_out)}")
    machine, ceilings = this_machine(), ceilings_of(arguments.threads)
    console.print(
        f"{machine.processor}, {arguments.threads} of {machine.cores} cores: {ceilings.float32_gmacs:.0f} GMAC/s in"
        f" float32, {ceilings.int8_gmacs:.0f} in int8, {ceilings.memory_gbs:.1f} GB/s of memory"
    )
    stage = last_stage(arguments.threads, arguments.runs)
    for name, figures in stage.items():
        console.print(
            f"last stage, 19 classes to 512x1024 (HxW), {name}: {figures['median']:.2f} ms,"
            f" {figures['equal_to_torch']:.4%} as torch"
        )
    bundles = {load(path).card.model: load(path) for path in arguments.bundle}
    splits = (
        [open_dataset(arguments.data, split, arguments.data_root) for split in ("train", "val")]
        if arguments.data
        else []
    )
    named = [*bundles, *(name for name in arguments.models if name not in bundles)]
    protocol = {
        "call": "uint8 picture to uint8 ids of its size, batch 1, each engine in its own process, by turns",
        "threads": arguments.threads,
        "runs": arguments.runs,
        **machine.to_dict(),
    }
    results: dict[str, Any] = {"protocol": protocol, "ceilings": vars(ceilings), "last_stage_ms": stage, "rows": []}
    rows: list[Row] = []
    for name in named:
        bundle = bundles.get(name) or with_statistics(name)
        fits = bool(splits) and splits[0].labels.classes == bundle.card.labels.classes
        data = (splits[0], splits[1]) if fits else None
        for size in arguments.sizes:
            height, _, width = size.partition("x")
            at = (int(height), int(width))
            new = measured(bundle, at, engines, arguments.threads, arguments.runs, ceilings, data)
            console.print(table(new))
            rows += new
            results["rows"] += [
                vars(row) | {"latency": row.latency.to_dict(), "versions": dict(row.versions)} for row in new
            ]
            if arguments.json:  # a run takes an hour; what is done shall not be lost
                with atomic_write(arguments.json) as temporary:
                    temporary.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
