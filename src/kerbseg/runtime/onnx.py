"""Runs an exported ONNX file with ONNX Runtime."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core import telemetry
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.precision import Precision
from kerbseg.exported_card import IDS, LOGITS, PICTURES, ExportedCard
from kerbseg.runtime.checks import PictureCheck, checked_threads
from kerbseg.runtime.cpu_head import CpuArgmaxHead
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords, LayerTime, RuntimeOptions
from kerbseg.runtime.seal import ONNX_SEAL

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

LOGITS_NHWC = "logits_nhwc"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}


class OnnxRuntime:
    """An ONNX file of ours; on a CPU its last stage is our own, on another device the one inside the file.

    Logits, and the confidence that follows from them, come from a second session there, whose last stage is our own:
    it is opened when they are first asked for. (Run with the provider of a processor in its place; not on a GPU here.)
    """

    name = "onnx"

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        ort = onnxruntime()
        providers = PROVIDERS.get(options.device, ())
        if missing := [one for one in providers or (options.device,) if one not in ort.get_available_providers()]:
            raise KerbsegError(
                f"onnxruntime has no {missing[0]} here; use --device cpu, or install its build for your device"
            )
        model = _read(path)
        exported = ExportedCard.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
        self.precision: Precision = exported.last_stage.precision
        if options.precision not in (None, self.precision):
            raise KerbsegError(
                f"{path} computes in {self.precision}, not in {options.precision}; leave --precision out"
            )
        self.card, self.last_stage, self.foreign = exported.card, exported.last_stage, exported.foreign
        self.size: tuple[int, int] | None = exported.card.input_size
        self.device, self.threads = options.device, checked_threads(options.threads)
        self._layout = ENGINES[self.name].logits_layout
        self._logits = LOGITS_NHWC if self._layout == "nhwc" else LOGITS
        self._output = self._logits if self.device == "cpu" else IDS
        self._path, self._errors = path, ort_errors()
        shortened = _ending_at_logits(model, self._logits, path)
        self._open = partial(self._opened, ort, shortened if self.device == "cpu" else model, providers)
        self._session = self._open()
        self._logits_session = cache(partial(self._opened, ort, shortened, providers))
        self._check = PictureCheck(exported.card.input_size)
        batch = self._checked_batch(exported)
        self._new_head = lambda run, threads: CpuArgmaxHead(run, exported, threads, self._layout, batch)
        self._head = self._new_head(self._run if self.device == "cpu" else self._run_logits, self.threads)

    def divided(self, calls: int) -> list[OnnxRuntime]:
        """Runtimes of this network, each for one call at a time, with `threads // calls` threads."""
        parts = [copy.copy(self) for _ in range(calls)]
        for part in parts:
            part.threads = self.threads // calls
            part._session = self._open(threads=part.threads)
            part._head = self._new_head(part._run, part.threads)
        return parts

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._head.logits(pictures)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        if self.device != "cpu":
            return self._run(self._check(pictures))
        return self._head(pictures)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logits behind them."""
        return self._head.with_logits(pictures)

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is."""
        return self._head.with_confidence(pictures, **how)

    def _run(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        return self._answer(self._session, self._output, pictures)

    def _run_logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        return self._answer(self._logits_session(), self._logits, pictures)

    def _answer(self, session: Any, output_name: str, pictures: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        try:
            output: np.ndarray = session.run([output_name], {PICTURES: pictures})[0]
        except self._errors as error:
            raise BundleError(f"onnxruntime cannot run {self._path} ({_brief(error)}); export it again") from error
        return output

    def synchronize(self) -> None:
        """A call of ONNX Runtime returns when its result is there."""

    def _checked_batch(self, exported: ExportedCard) -> int | None:
        """The only batch of the graph, if it has one. Raises BundleError where the graph is not the one of the card."""
        shapes = {value.name: value.shape for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        known = {
            name: [dim if isinstance(dim, int) else None for dim in shape or [None] * 4]
            for name, shape in shapes.items()
        }
        logits = known.get(self._logits, [None] * 4)
        if self._logits == LOGITS_NHWC:
            logits = [logits[place] for place in (0, 3, 1, 2)]
        pictures = known.get(PICTURES, [])
        exported.check_tensors(pictures, logits, str(self._path))
        return pictures[0]

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, with the conversion to float inside, up to its own logits."""
        if self.device != "cpu":
            return lambda: self(pictures)
        return self._head.forward_only(pictures)

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

    def _opened(
        self,
        ort: Any,
        model: onnx.ModelProto,
        providers: tuple[str, ...],
        trace: Path | None = None,
        threads: int | None = None,
    ) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or self.threads
        options.log_severity_level = 3
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(trace)
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))
        except self._errors as error:
            raise BundleError(f"onnxruntime cannot open {self._path} ({_brief(error)}); export it again") from error


def onnxruntime() -> Any:
    """The package. Raises MissingExtra without it."""
    telemetry.switch_off()
    try:
        import onnxruntime as package
    except ImportError as error:
        raise ENGINES["onnx"].missing("onnxruntime") from error
    return package


def ort_errors() -> tuple[type[Exception], ...]:
    """All that ONNX Runtime raises; its own errors have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))
    return (RuntimeError, ValueError, *own)


def _brief(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _read(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ENGINES["onnx"].missing("onnx") from error
    try:
        content = path.read_bytes()
        ONNX_SEAL.check(content, path)
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except (DecodeError, OSError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} is no whole ONNX file ({_brief(error)}); export it again") from error
    if any(each.external_data for each in model.graph.initializer):
        raise BundleError(f"{path} keeps weights in other files, which ours never do; export it again")
    return model


def _ending_at_logits(model: onnx.ModelProto, name: str, path: Path) -> onnx.ModelProto:
    """The same graph ending at the logits, as `name` asks for them; what only the ids need is dropped."""
    import onnx

    shortened = onnx.ModelProto()
    shortened.CopyFrom(model)
    graph = shortened.graph
    del graph.output[:]
    graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    needed, nodes = {LOGITS}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            nodes.append(node)
    if len(nodes) == 0:
        raise BundleError(f"{path} holds no tensor {LOGITS!r}; export it again")
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    if name == LOGITS_NHWC:
        graph.node.append(onnx.helper.make_node("Transpose", [LOGITS], [name], perm=(0, 2, 3, 1)))
    return shortened
