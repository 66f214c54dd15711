"""The usual way of a network: its untouched graph to its own end, timed beside the accelerated file.

What stands between a picture and the network is put into the graph for both, so that the last stage alone differs: a
user who normalizes in numpy gains more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.accelerate.files import ENDINGS, Network, open_network
from kerbseg.accelerate.onnx_graph import OnnxGraph
from kerbseg.bundle import METADATA_KEY
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.precision import Precision
from kerbseg.exported_card import PICTURES
from kerbseg.profiling.report import Untouched, foreign_subject
from kerbseg.profiling.workers import Ready, ready
from kerbseg.runtime import Exported, IdsOnly, Runtime, RuntimeOptions, open_runtime
from kerbseg.runtime.checks import PictureCheck, checked_threads
from kerbseg.runtime.onnx import onnxruntime

if TYPE_CHECKING:
    from kerbseg.bundle import BundleCard


class UsualWay:
    """A runtime that runs the untouched graph whole, and takes an argmax in numpy where it gives logits."""

    def __init__(self, network: Network, accelerated: Runtime, threads: int | None) -> None:
        self.card: BundleCard = accelerated.card
        self.name = f"{accelerated.name} to its own end"
        self.device, self.threads = "cpu", checked_threads(threads)
        self.precision: Precision = network.graph.precision
        self.size: tuple[int, int] | None = self.card.input_size
        self._network, self._check = network, PictureCheck(self.card.input_size)
        self._run = _opened(network, self.threads)

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        batch = self._network.graph.input.batch
        filled = np.resize(self._check(pictures), (max(batch, len(pictures)), *pictures.shape[1:]))
        outputs = [self._run(filled[first : first + batch]) for first in range(0, len(filled), batch)]
        if self._network.tail.resize is not None:
            outputs = [self._network.reading.ids(output) for output in outputs]
        return np.concatenate(outputs)[: len(pictures)].astype(np.uint8)

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """What the network says before its last stage is not looked at here. Raises IdsOnly."""
        raise IdsOnly(self.name)


def _opened(network: Network, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """From uint8 pictures to the output of the graph, or to ids where a graph ends at its small logits."""
    graph, tail = network.graph, network.tail
    model = graph.cut(tail) if tail.resize is None else graph.whole(tail.end)
    if network.engine == "onnx":
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return lambda pictures: session.run(None, {PICTURES: pictures})[0]
    from kerbseg.accelerate.openvino_graph import of_onnx
    from kerbseg.runtime.openvino import core

    whole = of_onnx(model, graph.path) if isinstance(graph, OnnxGraph) else model
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core().compile_model(whole, "CPU", settings).create_infer_request()

    def run(pictures: np.ndarray) -> np.ndarray:
        request.infer([pictures], share_inputs=True)
        data: np.ndarray = request.get_output_tensor(0).data
        return data

    return run


def is_untouched(model: str) -> bool:
    """Whether a file is a network of others, as it came."""
    path = Path(model)
    return path.suffix in ENDINGS and path.is_file() and METADATA_KEY.encode() not in path.read_bytes()


def untouched(model: str, accelerated: str) -> Untouched:
    """What `profile_models` needs to time a network's usual way beside the file that was made of it.

    Raises BundleError where `accelerated` was not made by `kerbseg accelerate`, or of another network.
    """
    runtime = open_runtime(accelerated)
    known = _network(model, accelerated, runtime)
    parameters, macs = known.graph.costs(known.graph.cut(known.tail))
    subject = foreign_subject(runtime, parameters, macs, Path(model), known.size_bytes())
    return Untouched(subject, partial(_prepare, accelerated))


def _network(model: str, accelerated: str, runtime: Runtime) -> Network:
    if not isinstance(runtime, Exported) or runtime.foreign is None:
        raise BundleError(
            f"{model} is no file of kerbseg, and {accelerated} was not made of it; bring it here first:"
            f" kerbseg accelerate {model} -o OUT"
        )
    card = runtime.card
    size = card.input_size
    known = open_network(Path(model), Path(accelerated), card.preprocessing, size, runtime.foreign.logits)
    told = (len(card.labels), runtime.foreign.parameters, runtime.foreign.softmax)
    made = [replace(known, mixes_early=mixes).exported(card.labels).foreign for mixes in (True, False)]
    if told not in [(known.tail.classes, each.parameters, each.softmax) for each in made if each is not None]:
        raise KerbsegError(f"{accelerated} was made of {runtime.foreign.file}, not of {model}; name that one")
    return known


def _prepare(
    accelerated: str, model: str, options: RuntimeOptions, picture: UInt8[np.ndarray, "h w 3"], _: object = None
) -> Ready:
    """In a process of its own: the usual way, which has seen the picture once."""
    runtime = open_runtime(accelerated)
    usual = UsualWay(_network(model, accelerated, runtime), runtime, options.threads)
    return ready(usual, picture, "of the file")
