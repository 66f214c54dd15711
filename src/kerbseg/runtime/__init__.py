"""Whatever turns uint8 pictures into class ids, behind one call; evaluation, prediction and apps see only this."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from jaxtyping import UInt8

from kerbseg.bundle import Bundle, BundleCard, load
from kerbseg.core.errors import BundleError, UserError, nearest
from kerbseg.core.resize import resize_ids, resize_picture

Working = Literal["trained", "own"] | tuple[int, int]


class Runtime(Protocol):
    """A network ready to run, and what is said of it in a protocol."""

    card: BundleCard
    name: str
    precision: str

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids of RGB pictures, at their size."""


def _torch(path: Path) -> Runtime:
    from kerbseg.runtime.torch import TorchRuntime

    return TorchRuntime(load(path))


SUFFIXES: dict[str, tuple[str, Callable[[Path], Runtime]]] = {".safetensors": ("torch", _torch)}


def open_runtime(model: str | Path | Bundle | Runtime, runtime: str | None = None) -> Runtime:
    """The runtime for a bundle or an exported model; `runtime` only confirms what the file is.

    Raises BundleError for a file that is missing, damaged or foreign, UserError for a runtime that cannot run it.
    """
    if isinstance(model, Bundle):
        return cast(Runtime, import_module("kerbseg.runtime.torch").TorchRuntime(model))
    if not isinstance(model, str | Path):
        return model
    path = Path(model)
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
    return opener(path)


def working_size(size: tuple[int, int], card: BundleCard, working: Working = "trained") -> tuple[int, int]:
    """Height and width at which a picture of `size` is looked at.

    'trained': the height that the network was trained on, the picture's proportions kept, since a network knows things
    at the size it has seen them; 'own': the picture as it is; or a size.
    """
    if working == "own":
        return size
    if working == "trained":
        height = card.input_size[0]
        return height, max(1, round(size[1] * height / size[0]))
    return working


def segment(
    runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], working: Working = "trained"
) -> UInt8[np.ndarray, "h w"]:
    """Class ids of one RGB picture of any size, at its own size."""
    size = (picture.shape[0], picture.shape[1])
    ids = runtime(resize_picture(picture, working_size(size, runtime.card, working))[None])[0]
    return resize_ids(ids, size)
