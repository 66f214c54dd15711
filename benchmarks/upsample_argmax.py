"""The last stage alone: `kerbseg.upsample_argmax` beside OpenVINO's and torch's own, 19 classes to 512x1024 (HxW).

Logits of 128x256 are those of a drawn street: regions, soft borders, a little noise. Each way has a process of its own,
and all are timed by turns. OpenVINO's is Interpolate and TopK, as it is converted from torch; with confidence, also
SoftMax and ReduceMax. With --model, an exported .xml is also run in Python and by integrations/cpp/segment.cpp, built
here. Example: python benchmarks/upsample_argmax.py --threads 2 --json benchmarks/results/upsample_argmax.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from cpu import FULL, LOGITS, openvino_last_stage, street_logits, torch_last_stage
from rich.console import Console
from rich.table import Table

import kerbseg
from kerbseg.core.files import atomic_write
from kerbseg.profiling.latency import Budget, Latency, interleaved, timed
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import Ready, drawn_street, of_model, worker
from kerbseg.runtime import ENGINES, RuntimeOptions, open_runtime
from kerbseg.runtime.openvino import core, openvino

PROGRAM = Path(__file__).parents[1] / "integrations" / "cpp"


def ours(kind: str, confidence: bool, threads: int) -> Ready:
    """The public function on logits of one kind."""
    logits, options = street_logits(), {}
    if kind == "uint8":
        scale = float(np.ptp(logits)) / 255
        zero_point = round(-float(logits.min()) / scale)
        logits = np.clip(np.round(logits / scale) + zero_point, 0, 255).astype(np.uint8)
        options = {"scale": scale, "zero_point": zero_point}
    if kind != "NCHW":
        logits = np.ascontiguousarray(logits.transpose(0, 2, 3, 1))
        options["layout"] = "NHWC"
    call = partial(kerbseg.upsample_argmax, logits, FULL, confidence=confidence, threads=threads, **options)
    result = call()
    return Ready(result[0] if confidence else result, {"call": timed(call)})


def openvino_confidence(threads: int) -> Ready:
    """Ids and their softmax by OpenVINO."""
    ov = openvino()

    class Confidence(torch.nn.Module):
        def forward(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            full = torch.nn.functional.interpolate(logits, FULL, mode="bilinear")
            return full.argmax(1).to(torch.uint8), full.softmax(1).amax(1)

    logits = street_logits()
    model = ov.convert_model(Confidence(), example_input=torch.from_numpy(logits), input=LOGITS)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core().compile_model(model, "CPU", settings).create_infer_request()
    request.infer([logits])
    return Ready(request.get_output_tensor(0).data.copy(), {"call": timed(lambda: request.infer([logits]))})


WAYS: dict[str, Callable[[int], Ready]] = {
    "openvino": openvino_last_stage,
    "torch": torch_last_stage,
    "kerbseg NCHW": partial(ours, "NCHW", False),
    "kerbseg NHWC": partial(ours, "NHWC", False),
    "kerbseg uint8": partial(ours, "uint8", False),
    "openvino, confidence": openvino_confidence,
    "kerbseg NCHW, confidence": partial(ours, "NCHW", True),
    "kerbseg NHWC, confidence": partial(ours, "NHWC", True),
}


def last_stages(threads: int, runs: int) -> dict[str, Any]:
    """Milliseconds of each way, the share of ids that agree with torch's, and how many times faster than OpenVINO."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(worker(way, threads)) for name, way in WAYS.items()}
        latencies = dict(
            zip(workers, interleaved([one.batch("call") for one in workers.values()], Budget(runs=runs)), strict=True)
        )
        reference = workers["torch"].facts
    results = {}
    for name, latency in latencies.items():
        base = latencies["openvino, confidence" if "confidence" in name else "openvino"]
        results[name] = latency.to_dict() | {
            "equal_to_torch": float((workers[name].facts == reference).mean()),
            "times_faster_than_openvino": round(base.median_ms / latency.median_ms, 2),
        }
    return results


def built(folder: Path) -> Path:
    """The C++ program, by the plain line of its README."""
    package = Path(openvino().__path__[0])
    (library,) = (package / "libs").glob("libopenvino.so*")
    where = ["-isystem", package / "include", library, f"-Wl,-rpath,{package / 'libs'}", "-o", folder / "segment"]
    source = PROGRAM / "segment.cpp"
    subprocess.run(["g++", "-std=c++17", "-O3", "-march=native", "-pthread", source, *where], check=True)
    return folder / "segment"


def programs(model: Path, threads: int, runs: int) -> dict[str, Any]:
    """Milliseconds of a picture in Python and in C++, by turns."""
    picture = drawn_street(open_runtime(model).card.input_size)
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        program = built(folder)
        head = b"P6\n%d %d\n255\n" % (picture.shape[1], picture.shape[0])
        (folder / "street.ppm").write_bytes(head + picture.tobytes())

        def in_cpp(calls: int) -> list[float]:
            command = [program, model, folder / "street.ppm", folder / "ids.pgm"]
            options = ["--threads", str(threads), "--repeat", str(calls)]
            said = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
            return [float(said.split()[1]) / 1e3] * calls  # its median

        options = RuntimeOptions(threads=threads)
        python = stack.enter_context(worker(of_model, str(model), options, picture, dict(ENGINES)))
        latencies: list[Latency] = interleaved([python.batch("call"), in_cpp], Budget(runs=runs))
        ids = np.frombuffer((folder / "ids.pgm").read_bytes()[-picture[..., 0].size :], np.uint8)
        own = open_runtime(model)(picture[None])[0]
        return {
            "model": model.name,
            "size": list(picture.shape[:2]),
            "python": latencies[0].to_dict(),
            "c++": latencies[1].to_dict(),
            "equal_ids": float((ids.reshape(own.shape) == own).mean()),
        }


def main() -> None:
    """Reads the arguments, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--model", type=Path, help="an exported .xml, to time in Python and in C++")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "protocol": {
            "call": "logits [1 19 128 256] of a drawn street to ids of 512x1024 (HxW), a process each, by turns",
            "threads": arguments.threads,
            "runs": arguments.runs,
            **this_machine().to_dict(),
        },
        "last_stage_ms": last_stages(arguments.threads, arguments.runs),
    }
    console, table = Console(width=80), Table("last stage", "median ms", "p95 ms", "as torch", "x openvino")
    for name, row in results["last_stage_ms"].items():
        shown = f"{row['equal_to_torch']:.4%}", f"{row['times_faster_than_openvino']:.1f}"
        table.add_row(name, f"{row['median']:.2f}", f"{row['p95']:.2f}", *shown)
    console.print(table)
    if arguments.model:
        results["program"] = programs(arguments.model, arguments.threads, arguments.runs)
        python, cpp = (results["program"][name]["median"] for name in ("python", "c++"))
        console.print(f"{arguments.model.name}: Python {python:.2f} ms, C++ {cpp:.2f} ms a picture")
    if arguments.json:
        with atomic_write(arguments.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
