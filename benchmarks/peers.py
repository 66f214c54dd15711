"""Anyone's segmentation networks beside ours: the usual way, the network alone, and through kerbseg's last stage.

The usual way is the untouched file to its own end in OpenVINO; the other two are those of the file that
`kerbseg accelerate` makes of it. What stands between a picture and the network is in the graph of both. Each is a
process of its own, and all take turns, so that what else the machine does hits all. uint8 picture to ids.
Examples:
    python benchmarks/peers.py pidnet_s.onnx ddrnet_23_slim.onnx --size 512x1024 --json peers.json
    python benchmarks/peers.py *.onnx --int8 --calibration pictures/ --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
Give trained weights and a picture of what they know (`--picture`): how many pixels lie at borders between classes
decides what a last stage costs, and networks with random weights see noise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.accelerate import accelerate
from kerbseg.accelerate.files import folder_of, open_network, shown_pictures
from kerbseg.accelerate.int8 import accelerate_int8
from kerbseg.accelerate.normalization import read_preprocessing
from kerbseg.accelerate.onnx_graph import OnnxGraph
from kerbseg.bundle import find_model, load
from kerbseg.cli.options import parse_size
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.core.resize import resize_picture
from kerbseg.core.text import counted
from kerbseg.core.types import Preprocessing
from kerbseg.data.pictures import read_rgb
from kerbseg.export.openvino import of_onnx, write_openvino
from kerbseg.models import card as model_card
from kerbseg.profiling.latency import Budget, interleaved, timed
from kerbseg.profiling.machine import this_machine
from kerbseg.profiling.workers import Ready, Worker, drawn_street, of_model, worker
from kerbseg.runtime import RuntimeOptions, open_runtime
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.openvino import core, keeping_signal_stack, openvino

OURS = ("mininet_v2_cpu-camvid",)
CALIBRATION = 32  # pictures, for int8
ROWS = (("usual", "usual", "call"), ("network", "ours", "forward"), ("ours", "ours", "call"))
"""What is timed: its name, the process, and what that is asked for."""


def usual_way(file: str, source: str, made: str, threads: int | None, picture: np.ndarray) -> Ready:
    """In a process of its own: a file to its own end, and an argmax in numpy where that is no ids."""
    reading = None
    if source:
        runtime = open_runtime(made)
        logits = runtime.foreign.logits
        network = open_network(Path(source), Path(made), runtime.card.preprocessing, runtime.size, logits)
        reading = network.reading.ids if network.tail.resize is not None else None
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": checked_threads(threads)}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = core().compile_model(core().read_model(file), "CPU", settings).create_infer_request()
    pictures = picture[None]

    def call() -> object:
        request.infer([pictures], share_inputs=True)
        output = request.get_output_tensor(0).data
        return output if reading is None else reading(output)

    call()
    return Ready(None, {"call": timed(call)})


class Peer:
    """A network of others: its files in float, and in int8 where that was asked for."""

    def __init__(self, source: Path, folder: Path, pixels: Preprocessing, size: tuple[int, int] | None) -> None:
        self.source, self.name = str(source), source.stem
        self._folder, self._pixels, self._size = folder, pixels, size
        self.made = folder / f"{self.name}.xml"
        self.equal = accelerate(source, self.made, preprocessing=pixels, size=size).equal
        self._network = open_network(source, self.made, pixels, size)
        self.size: tuple[int, int] = self._network.graph.input.size
        self.whole = self._written(self._model(), f"{self.name}_whole.xml")
        self.macs = open_runtime(self.made).foreign.macs

    def _model(self) -> Any:
        """The untouched graph as an OpenVINO model, from uint8 pictures to its own end."""
        graph, tail = self._network.graph, self._network.tail
        model = graph.cut(tail) if tail.resize is None else graph.whole(tail.end)
        return of_onnx(model) if isinstance(graph, OnnxGraph) else model

    def _written(self, model: Any, name: str) -> Path:
        path = self._folder / name
        openvino().serialize(model, path, path.with_suffix(".bin"))
        return path

    def int8(self, calibration: Path) -> tuple[Path, Path]:
        """Both files in int8, calibrated on the pictures of a folder: the usual way's, and ours."""
        import nncf

        made, network = self._folder / f"{self.name}_int8.xml", self._network
        accelerate_int8(self.source, made, calibration, preprocessing=self._pixels, size=self._size)
        shown = shown_pictures(calibration, network.graph.input.size)[:CALIBRATION]
        with keeping_signal_stack():
            quantized = nncf.quantize(self._model(), nncf.Dataset([one[None] for one in shown]))
        return self._written(quantized, f"{self.name}_whole_int8.xml"), made

    def workers(self, stack: ExitStack, whole: Path, made: Path, given: Any, picture: np.ndarray) -> dict[str, Worker]:
        """Its processes."""
        usual = worker(usual_way, str(whole), self.source, str(made), given.threads, picture)
        options = RuntimeOptions(threads=given.threads)
        ours = worker(of_model, str(made), options, picture)
        return {"usual": stack.enter_context(usual), "ours": stack.enter_context(ours)}


class Own:
    """A network of ours, exported for the size of the others; its usual way is the exported file to its end."""

    source = ""

    def __init__(self, name: str, folder: Path, size: tuple[int, int]) -> None:
        opened = find_model(name, label_set("cityscapes"))
        bundle = load(opened) if isinstance(opened, Path) else opened
        self.name, self.size, self.equal = Path(name).stem, size, None
        self.made = self.whole = folder / f"ours_{self.name}.xml"
        write_openvino(replace(bundle, card=replace(bundle.card, input_size=size)), self.made, size)
        card = model_card(bundle.card.model)
        self.macs = round(card.macs * size[0] * size[1] / (card.input[0] * card.input[1]))

    workers = Peer.workers


def measured(rows: Iterable[tuple[Any, Path, Path]], given: Any, precision: str) -> list[dict[str, Any]]:
    """Medians in ms of all of them, by turns."""
    rows = list(rows)
    with ExitStack() as stack:
        batches, places = [], []
        for network, whole, made in rows:
            one = network.workers(stack, whole, made, given, picture_of(given.picture, network.size))
            for what, process, answer in ROWS:
                batches.append(one[process].batch(answer))
                places.append((network.name, what))
        progress(f"timing {counted(len(rows), 'network')} by turns, {precision}: {given.seconds:g} seconds")
        latencies = interleaved(batches, Budget(seconds=given.seconds))
    medians = dict(zip(places, (each.median_ms for each in latencies), strict=True))
    return [
        {
            "network": network.name,
            "precision": precision,
            "size": network.size,
            "gmacs": None if network.macs is None else network.macs / 1e9,
            "usual_ms": medians[network.name, "usual"],
            "network_ms": medians[network.name, "network"],
            "ours_ms": medians[network.name, "ours"],
            "equal": network.equal,
            "by": "others" if network.source else "kerbseg",
        }
        for network, _, _ in rows
    ]


def progress(text: str) -> None:
    print(f"peers: {text}", file=sys.stderr)


def picture_of(path: Path | None, size: tuple[int, int]) -> np.ndarray:
    """What all of them see, at the size that one takes."""
    return drawn_street(size) if path is None else resize_picture(read_rgb(path), size, "bilinear")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, fastest first."""
    lines = [
        "| network | GMACs | HxW | usual way, ms | network alone | kerbseg | gain |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: (row["precision"], row["ours_ms"])):
        name = f"{row['network']}, {row['precision']}" + (" (ours)" if row["by"] == "kerbseg" else "")
        gmacs = "not known" if row["gmacs"] is None else f"{row['gmacs']:.1f}"
        figures = f"{row['usual_ms']:.1f} | {row['network_ms']:.1f} | {row['ours_ms']:.1f}"
        gain = f"{row['usual_ms'] / row['ours_ms']:.2f}"
        lines.append(f"| {name} | {gmacs} | {row['size'][0]}x{row['size'][1]} | {figures} | {gain} |")
    return "\n".join(lines)


def main() -> int:
    """Prints the table, what could not be measured and why, and writes the figures where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path, help=".onnx or OpenVINO .xml files of others")
    parser.add_argument("--ours", nargs="*", default=OURS, help="bundles or registered names to time beside them")
    parser.add_argument("--size", help="HEIGHTxWIDTH, for files that take any; ours are exported for that of the first")
    parser.add_argument("--mean", help="of the channels, such as 0.485,0.456,0.406; the same for all files")
    parser.add_argument("--std")
    parser.add_argument("--channels", choices=("rgb", "bgr"), default="rgb")
    parser.add_argument("--int8", action="store_true", help="also in int8, calibrated on --calibration")
    parser.add_argument("--calibration", type=Path, help="folder of pictures, for int8")
    parser.add_argument("--picture", type=Path, help="to time on; a drawn street without it")
    parser.add_argument("--threads", type=int, help="all without it")
    parser.add_argument("--seconds", type=float, default=30, help="of timing, for all networks of a precision together")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.int8 and given.calibration is None:
        parser.error("--int8 needs pictures: --calibration FOLDER")
    if given.calibration is not None:
        folder_of(given.calibration)
    size = parse_size(given.size)
    pixels = read_preprocessing(given.mean, given.std, given.channels)
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peers: list[Any] = []
        for source in given.networks:
            progress(f"accelerating {source.name}")
            try:
                peers.append(Peer(source, folder, pixels, size))
            except KerbsegError as error:
                skipped[source.name] = str(error)
        shared = size or (peers[0].size if peers else None)
        ours = []
        for name in given.ours if shared is not None else ():
            progress(f"exporting {name}")
            ours.append(Own(name, folder, shared))
        rows = measured(((one, one.whole, one.made) for one in [*peers, *ours]), given, "float32") if peers else []
        if given.int8 and peers:
            progress("quantizing to int8")
            rows += measured([(peer, *peer.int8(given.calibration)) for peer in peers], given, "int8")
    machine = this_machine()
    print(f"{table(rows)}\n\n{machine}; {checked_threads(given.threads)} threads")
    for name, reason in skipped.items():
        print(f"{name}: not measured: {reason}")
    if given.json is not None:
        protocol = {"threads": checked_threads(given.threads), "seconds": given.seconds, **machine.to_dict()}
        given.json.write_text(
            json.dumps({"rows": rows, "not_measured": skipped, "protocol": protocol}, indent=1) + "\n"
        )
    return 0 if rows else 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KerbsegError as error:
        print(f"peers: {error}", file=sys.stderr)
        sys.exit(2)
