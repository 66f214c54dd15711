"""Whatever turns uint8 pictures into class ids, behind one call; evaluation, prediction and apps see only this."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.bundle import Bundle, BundleCard, load
from kerbseg.core.errors import BundleError, UserError, nearest
from kerbseg.core.resize import resize_ids, resize_picture

Working = Literal["trained", "own"] | tuple[int, int]

WIDEST = 4  # a strip is never made wider than this many times the width that the network was trained on


class Runtime(Protocol):
    """A network ready to run, and what is said of it in a protocol."""

    card: BundleCard
    name: str
    precision: str

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids of RGB pictures, at their size."""


@runtime_checkable
class Confident(Protocol):
    """A runtime that also tells how sure it is."""

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[np.ndarray, "b h w"]]:
        """Class ids of RGB pictures, and the probability that the network gives to each pixel's class."""


def _torch(model: Path | Bundle, device: str) -> Runtime:
    from kerbseg.runtime.torch import TorchRuntime

    return TorchRuntime(model if isinstance(model, Bundle) else load(model), device)


SUFFIXES: dict[str, tuple[str, Callable[[Path, str], Runtime]]] = {".safetensors": ("torch", _torch)}


def open_runtime(model: str | Path | Bundle | Runtime, runtime: str | None = None, device: str = "cpu") -> Runtime:
    """The runtime for a bundle or an exported model; `runtime` only confirms what the file is.

    Raises BundleError for a file that is missing, damaged or foreign, UserError for a runtime that cannot run it.
    """
    if isinstance(model, Bundle):
        return _torch(model, device)
    if not isinstance(model, str | Path):
        return model
    path = Path(model)
    if path.is_dir():
        raise BundleError(f"model {path} is a folder; name the file in it, such as {path / 'best.safetensors'}")
    if not path.is_file():
        raise BundleError(f"model {path} does not exist")
    if path.suffix not in SUFFIXES:
        raise BundleError(f"{path} is no model that runs here; models are {', '.join(SUFFIXES)} files")
    kind, opener = SUFFIXES[path.suffix]
    if runtime is not None and runtime != kind:
        kinds = [name for name, _ in SUFFIXES.values()]
        if runtime not in kinds:
            raise UserError(f"unknown runtime {runtime!r}; {nearest(runtime, kinds)}")
        raise UserError(f"{path} runs on {kind}, not on {runtime}; export it first, or leave --runtime out")
    return opener(path, device)


def working_size(size: tuple[int, int], card: BundleCard, working: Working = "trained") -> tuple[int, int]:
    """Height and width at which a picture of `size` is looked at.

    'trained': the height that the network was trained on, the picture's proportions kept, since a network knows things
    at the size it has seen them (a strip is looked at lower than that, lest it become endlessly wide); 'own': the
    picture as it is; or a size.
    """
    if working == "own":
        return size
    if working == "trained":
        scale = min(card.input_size[0] / size[0], WIDEST * card.input_size[1] / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return working


def segment(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], working: Working = "trained"
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, at its own size."""
    size = (picture.shape[0], picture.shape[1])
    ids = runtime(_seen(runtime, picture, working))[0]
    return resize_ids(ids, size)


def segment_with_confidence(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], working: Working = "trained"
) -> tuple[UInt8[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """As `segment`, with the probability of each pixel's class. Raises UserError where a runtime gives ids alone."""
    if not isinstance(runtime, Confident):
        raise UserError(f"{runtime.name} gives class ids without confidence; use the bundle (.safetensors)")
    size = (picture.shape[0], picture.shape[1])
    ids, confidence = runtime.with_confidence(_seen(runtime, picture, working))
    return resize_ids(ids[0], size), resize_ids(confidence[0], size)


def _seen(runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], working: Working) -> UInt8[np.ndarray, "1 h w 3"]:
    size = working_size((picture.shape[0], picture.shape[1]), runtime.card, working)
    return resize_picture(picture, size)[None]
