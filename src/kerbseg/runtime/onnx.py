"""Runs an exported ONNX file with ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import BundleError, MissingExtra, UserError
from kerbseg.profiling.latency import LayerTime
from kerbseg.runtime.exported import IDS, PICTURES, SCORES, CpuArgmaxHead, Exported, checked, checked_threads

if TYPE_CHECKING:
    import onnx

SIDE_BY_SIDE = "scores_nhwc"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}


class OnnxRuntime:
    """An ONNX file of ours; on a CPU its last stage is our own, on another device the one inside the file."""

    name = "onnx"

    def __init__(
        self, path: Path, device: str = "cpu", threads: int | None = None, precision: str | None = None
    ) -> None:
        ort = _onnxruntime()
        wanted = PROVIDERS.get(device, ())
        if missing := [one for one in wanted or (device,) if one not in ort.get_available_providers()]:
            raise UserError(
                f"onnxruntime has no {missing[0]} here; use --device cpu, or install its build for your device"
            )
        model = _read(path)
        exported = Exported.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
        self.precision: str
        self.card, self.precision = exported.card, exported.last_stage.precision
        if precision not in (None, self.precision):
            raise UserError(f"{path} computes in {self.precision}, not in {precision}; leave --precision out")
        self.size: tuple[int, int] | None = exported.card.input_size
        self.device, self.threads = device, checked_threads(threads)
        self._output = SIDE_BY_SIDE if device == "cpu" else IDS
        self._open = partial(self._opened, ort, _cut(model) if device == "cpu" else model, wanted)
        self._session = self._open()
        self._cheap = CpuArgmaxHead(self._run, exported, self.threads)

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k h w"]:
        """Scores of the classes before the last interpolation. Raises UserError on another device than a CPU."""
        if self.device != "cpu":
            raise UserError(f"on {self.device} only class ids are computed; use the CPU for scores")
        return self._cheap.logits(pictures)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        if self.device != "cpu":
            return self._run(checked(pictures, self.card.input_size))
        return self._cheap(pictures)

    def _run(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        found: np.ndarray = self._session.run([self._output], {PICTURES: pictures})[0]
        return found

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, with the conversion to float inside, up to its own scores."""
        return lambda: self._run(pictures)

    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """The operations after ONNX Runtime has merged them."""
        with TemporaryDirectory() as folder:
            session = self._open(trace=Path(folder) / "trace")
            for _ in range(runs):
                session.run([self._output], {PICTURES: pictures})
            events = json.loads(Path(session.end_profiling()).read_text())
        taken: dict[tuple[str, str], float] = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                key = (event["name"].removesuffix("_kernel_time"), event["args"]["op_name"])
                taken[key] = taken.get(key, 0.0) + event["dur"]
        return [LayerTime(name, kind, taken_us / 1e3 / runs) for (name, kind), taken_us in taken.items()]

    def _opened(self, ort: Any, model: onnx.ModelProto, providers: tuple[str, ...], trace: Path | None = None) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(trace)
        return ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "export") from error
    return onnxruntime


def _read(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra("onnx", "export") from error
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except (DecodeError, OSError, onnx.checker.ValidationError, ValueError) as error:
        raise BundleError(f"{path} is no whole ONNX file ({error}); export it again") from error
    return model


def _cut(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph ending at the scores [b h w k]; what only the ids need is dropped."""
    import onnx

    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    graph = cut.graph
    del graph.output[:]
    graph.output.append(onnx.helper.make_empty_tensor_value_info(SIDE_BY_SIDE))
    needed, nodes = {SCORES}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            nodes.append(node)
    if len(nodes) == 0:
        raise BundleError("the file holds no tensor 'scores'; export it again")
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    graph.node.append(onnx.helper.make_node("Transpose", [SCORES], [SIDE_BY_SIDE], perm=(0, 2, 3, 1)))
    return cut
