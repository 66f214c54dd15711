"""Runs an exported OpenVINO model on the processor."""

from __future__ import annotations

import copy
import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core import telemetry
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.precision import Precision
from kerbseg.exported_card import LEVELS, LOGITS, PICTURES, ExportedCard, LastStageCard
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.cpu_head import CpuArgmaxHead
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords, LayerTime, RuntimeOptions
from kerbseg.runtime.seal import XML_SEAL

if TYPE_CHECKING:
    from torch import Tensor

RT_INFO = "kerbseg"  # section of an IR's runtime information with our metadata
WEIGHTS_KEY = "kerbseg_weights"  # in it: the digest of the .bin that belongs to the .xml
# of what is not int8; without a word some processors would run in bfloat16, which torch does not agree with
HINTS = {"float32": "f32", "bfloat16": "bf16"}
COMPILED = 4  # networks that are kept, one for each batch size; each has memory and threads of its own


class OpenvinoRuntime:
    """An OpenVINO file of ours; its last stage is our own. A compiled network for each of the last batch sizes."""

    name = "openvino"

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        if options.device != "cpu":
            raise KerbsegError(f"openvino runs on the CPU here, not on {options.device!r}; leave --device out")
        ov = openvino()
        self.device, self.threads = options.device, checked_threads(options.threads)
        model = _read(core(), path)
        metadata = _metadata(model)
        exported = ExportedCard.from_metadata(metadata, str(path))
        if metadata.get(WEIGHTS_KEY) != digest(weights_of(path)):
            raise BundleError(f"{weights_of(path)} does not belong to {path.name}; export both again")
        self.card, self.last_stage, self.foreign = exported.card, exported.last_stage, exported.foreign
        self.precision: Precision = options.precision or exported.last_stage.precision
        if self.precision not in (exported.last_stage.precision, *HINTS):
            raise KerbsegError(f"openvino computes in {' or '.join(HINTS)} here, not in {options.precision}")
        self.size: tuple[int, int] | None = exported.card.input_size
        layout = ENGINES[self.name].logits_layout
        self._model = _ending_at_logits(ov, model, layout, exported, path)
        self._path = path
        self._request = lru_cache(COMPILED)(lambda batch: self._compiled(batch).create_infer_request())
        batch = self._model.input(0).get_partial_shape()[0]
        fixed = batch.get_length() if batch.is_static else None
        self._new_head = lambda run, threads: CpuArgmaxHead(run, exported, threads, layout, fixed)
        self._head = self._new_head(self._run, self.threads)

    def divided(self, calls: int) -> list[OpenvinoRuntime]:
        """Runtimes that share the weights, each for one call at a time, with `threads // calls` threads."""
        share, one_at_a_time = self.threads // calls, Lock()
        # unpinned: another stage may have the core of a thread for a while
        settings = {"NUM_STREAMS": calls, "INFERENCE_NUM_THREADS": calls * share, "ENABLE_CPU_PINNING": False}
        compiled = lru_cache(COMPILED)(lambda batch: self._compiled(batch, **settings))

        def request(batch: int) -> Any:
            with one_at_a_time:  # which compiles for the first
                return compiled(batch).create_infer_request()

        parts = [copy.copy(self) for _ in range(calls)]
        for part in parts:
            part.threads, part._request = share, lru_cache(COMPILED)(request)
            part._head = self._new_head(part._run, share)
        return parts

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation."""
        return self._head.logits(pictures)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
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

    def synchronize(self) -> None:
        """A call of OpenVINO returns when its result is there."""

    def _run(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> np.ndarray:
        request = self._request(len(pictures))
        try:
            request.infer([pictures], share_inputs=True)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot run {self._path} ({_brief(error)}); export it again") from error
        output: np.ndarray = request.get_output_tensor(0).data
        return output

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, with the conversion to float inside, up to its own logits."""
        return self._head.forward_only(pictures)

    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """The operations after OpenVINO has merged them."""
        request = self._compiled(len(pictures), PERF_COUNT=True).create_infer_request()
        taken: dict[tuple[str, str], float] = {}
        for _ in range(runs):
            request.infer([pictures], share_inputs=True)
            for one in request.profiling_info:
                key = (one.node_name, f"{one.node_type} {one.exec_type}")
                taken[key] = taken.get(key, 0.0) + one.real_time.total_seconds()
        return [LayerTime(name, kind, 1e3 * seconds / runs) for (name, kind), seconds in taken.items() if seconds]

    def _compiled(self, batch: int, **more: Any) -> Any:
        model = self._model.clone()
        if model.input(0).get_partial_shape().is_dynamic:
            model.reshape([batch, *self.card.input_size, 3])
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": HINTS.get(self.precision, "f32"),
            **more,
        }
        try:
            return core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise BundleError(f"openvino cannot compile {self._path} ({_brief(error)}); export it again") from error


@cache
def core() -> Any:
    """OpenVINO's core, the one of this process; for why there is one, see `keeping_signal_stack`."""
    return openvino().Core()


class _SignalStack(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """Surrounds what makes itself a core of OpenVINO, such as nncf.

    The plugin for processors takes over the stack that this thread handles signals on. Of several cores that do not
    end in the opposite order of their beginnings, the last leaves a stack that is no more: Ctrl-C would be a crash.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


def weights_of(path: Path) -> Path:
    """The file with the weights of a model."""
    return ENGINES["openvino"].files(path)[0]


def digest(weights: Path) -> str:
    """What tells one file of weights from another."""
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def openvino() -> Any:
    """The package. Raises MissingExtra without it."""
    telemetry.switch_off()
    try:
        import openvino as package
    except ImportError as error:
        raise ENGINES["openvino"].missing("openvino") from error
    return package


def _read(core: Any, path: Path) -> Any:
    if not weights_of(path).is_file():
        raise BundleError(f"{weights_of(path)} is missing: an OpenVINO model is an .xml and a .bin side by side")
    XML_SEAL.check(path.read_bytes(), path)
    try:
        return core.read_model(path)
    except RuntimeError as error:  # the one error that OpenVINO raises
        raise BundleError(f"{path} is no whole OpenVINO model ({_brief(error)}); export it again") from error


def _brief(error: RuntimeError) -> str:
    """Its last line that says something: those before name places in OpenVINO's source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"


def _metadata(model: Any) -> dict[str, str]:
    if not model.has_rt_info(RT_INFO):
        return {}
    section = model.get_rt_info(RT_INFO).value
    return {key: str(value) for key, value in section.items()} if isinstance(section, dict) else {}


def _ending_at_logits(ov: Any, model: Any, layout: Literal["nchw", "nhwc"], exported: ExportedCard, path: Path) -> Any:
    """The same graph ending at the logits; what only the ids need is dropped.

    Raises BundleError where the graph is not the one of the card.
    """
    tensors = {
        name: output
        for operation in model.get_ops()
        for output in operation.outputs()
        for name in output.get_names() & {PICTURES, LOGITS}
    }
    if missing := {PICTURES, LOGITS} - tensors.keys():
        raise BundleError(f"{path} holds no tensor {min(missing)!r}; export it again")
    pictures, logits = (
        [dim.get_length() if dim.is_static else None for dim in tensors[name].get_partial_shape()]
        for name in (PICTURES, LOGITS)
    )
    exported.check_tensors(pictures, logits, str(path))
    end = tensors[LOGITS]
    if exported.last_stage.dtype == "uint8":
        end = _levels(ov, end.get_node(), exported.last_stage, path)
    if layout == "nhwc":
        end = ov.opset13.transpose(end, np.array([0, 2, 3, 1])).output(0)
    return ov.Model([end], model.get_parameters(), LOGITS)


def _levels(ov: Any, quantize: Any, last_stage: LastStageCard, path: Path) -> Any:
    """The uint8 levels of logits that the graph brings to them, instead of the floats that they stand for.

    The last convolution then writes a byte a logit. Raises BundleError where the levels are not those of the card.
    """
    bounds = np.array(last_stage.bounds, np.float32)
    inputs = quantize.input_values() if quantize.get_type_name() == "FakeQuantize" else []
    own = [np.ravel(each.get_node().get_data()) for each in inputs[1:] if each.get_node().get_type_name() == "Constant"]
    if (
        len(own) != 4
        or quantize.get_attributes()["levels"] != LEVELS
        or not all(np.array_equal(each, bounds[[place % 2]]) for place, each in enumerate(own))
    ):
        raise BundleError(f"{path}: its graph gives other logits than the uint8 of its card; export it again")
    ops = ov.opset13
    levels = ops.fake_quantize(*inputs[:3], np.float32(0), np.float32(LEVELS - 1), LEVELS)
    return ops.convert(levels, "u8").output(0)
