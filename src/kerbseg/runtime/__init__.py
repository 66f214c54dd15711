"""Whatever turns uint8 pictures into class ids, behind one call; evaluation, prediction and apps see only this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.bundle import Bundle, BundleCard, load, locate
from kerbseg.core.errors import BundleError, UserError, did_you_mean
from kerbseg.core.resize import resize_ids, resize_picture
from kerbseg.profiling.latency import LayerTime

InputSizePolicy = Literal["trained", "own"] | tuple[int, int]
Precision = Literal["float32", "bfloat16", "float16"]

WIDEST = 4  # a strip is never made wider than this many times the width that the network was trained on


class Runtime(Protocol):
    """A network ready to run, and what is said of it in a protocol."""

    card: BundleCard
    name: str
    precision: str  # what it computes in
    size: tuple[int, int] | None  # height, width of the only pictures it takes; None for any

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids of RGB pictures, at their size."""


@runtime_checkable
class SupportsConfidence(Protocol):
    """A runtime that also tells how sure it is."""

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[np.ndarray, "b h w"]]:
        """Class ids of RGB pictures, and the probability that the network gives to each pixel's class."""


@runtime_checkable
class Profilable(Protocol):
    """A runtime that shows where its time goes."""

    threads: int

    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, without what comes before and after it."""

    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """Its operations on these pictures, in the order in which they run."""


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how a runtime runs; None leaves the choice to it."""

    device: str = "cpu"
    threads: int | None = None  # of a processor; all of them without it
    precision: Precision | None = None


Opener = Callable[[Any, RuntimeOptions], Runtime]


def _torch(model: Path | Bundle, setup: RuntimeOptions, how: str = "channels_last") -> Runtime:
    from kerbseg.runtime.torch import TorchRuntime

    return TorchRuntime(model if isinstance(model, Bundle) else load(model), how=how, **vars(setup))


def _onnx(path: Path, setup: RuntimeOptions) -> Runtime:
    from kerbseg.runtime.onnx import OnnxRuntime

    return OnnxRuntime(path, **vars(setup))


def _openvino(path: Path, setup: RuntimeOptions) -> Runtime:
    from kerbseg.runtime.openvino import OpenvinoRuntime

    return OpenvinoRuntime(path, **vars(setup))


OPENERS: Mapping[str, tuple[str, Opener]] = {  # by the name of the runtime: what it runs
    "torch": (".safetensors", _torch),
    "torch-eager": (".safetensors", partial(_torch, how="eager")),
    "torch-compiled": (".safetensors", partial(_torch, how="compiled")),
    "onnx": (".onnx", _onnx),
    "openvino": (".xml", _openvino),
}


def open_runtime(
    model: str | Path | Bundle | Runtime,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    precision: Precision | None = None,
) -> Runtime:
    """The runtime for a bundle or an exported model; the first that runs it, or the one named.

    Of a bundle `torch` works in channels-last layout, `torch-eager` in torch's own, `torch-compiled` through
    torch.compile. Raises BundleError for a file that is missing, damaged or foreign, MissingExtra without the engine's
    package, UserError for a runtime, device or precision that cannot run it.
    """
    if not isinstance(model, str | Path | Bundle):
        return model
    if runtime is not None and runtime not in OPENERS:
        raise UserError(f"unknown runtime {runtime!r}; {did_you_mean(runtime, OPENERS)}")
    source = model if isinstance(model, Bundle) else locate(model)
    suffix = ".safetensors" if isinstance(source, Bundle) else source.suffix
    fitting = {name: opener for name, (runs, opener) in OPENERS.items() if runs == suffix}
    if not fitting:
        known = ", ".join(dict.fromkeys(runs for runs, _ in OPENERS.values()))
        raise BundleError(f"{model} is no model that runs here; models are {known} files")
    if runtime is not None and runtime not in fitting:
        raise UserError(
            f"{model} runs on {' or '.join(fitting)}, not on {runtime}; export it first, or leave --runtime out"
        )
    opener = fitting[runtime or next(iter(fitting))]
    return opener(source, RuntimeOptions(device, threads, precision))


def network_size(size: tuple[int, int], runtime: Runtime, input_size: InputSizePolicy = "trained") -> tuple[int, int]:
    """Height and width at which a picture of `size` is looked at: the runtime's one size if it has one.

    'trained': the height that the network was trained on, the picture's proportions kept, since a network knows things
    at the size it has seen them (a strip is looked at lower than that, lest it become endlessly wide); 'own': the
    picture as it is; or a size.
    """
    if runtime.size is not None:
        return runtime.size
    if input_size == "own":
        return size
    card = runtime.card
    if input_size == "trained":
        scale = min(card.input_size[0] / size[0], WIDEST * card.input_size[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return input_size


def segment(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy = "trained"
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, at its own size."""
    size = (picture.shape[0], picture.shape[1])
    ids = runtime(_seen(runtime, picture, input_size))[0]
    return resize_ids(ids, size)


def segment_with_confidence(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy = "trained"
) -> tuple[UInt8[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """As `segment`, with the probability of each pixel's class. Raises UserError where a runtime gives ids alone."""
    if not isinstance(runtime, SupportsConfidence):
        raise UserError(f"{runtime.name} gives class ids without confidence; use the bundle (.safetensors)")
    size = (picture.shape[0], picture.shape[1])
    ids, confidence = runtime.with_confidence(_seen(runtime, picture, input_size))
    return resize_ids(ids[0], size), resize_ids(confidence[0], size)


def _seen(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], input_size: InputSizePolicy
) -> UInt8[np.ndarray, "1 h w 3"]:
    size = network_size((picture.shape[0], picture.shape[1]), runtime, input_size)
    return resize_picture(picture, size)[None]
