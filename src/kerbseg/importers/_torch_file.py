"""Reads the weights in an authors' PyTorch file; nothing in the file is executed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from kerbseg.core.errors import BundleError

WRAPPERS = ("state_dict", "model_state_dict")  # keys under which training scripts keep the weights
DAMAGED = (  # what torch.load raises for bytes that it did not write: found by changing bytes at random
    RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, ImportError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a file by key, on the CPU; unwrapped, without the `module.` of several GPUs.

    Raises BundleError for a file that is missing, damaged, foreign, or holds more than weights and numbers.
    """
    if not path.is_file():
        raise BundleError(f"{path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise BundleError(
            f"{path} is no PyTorch file, or holds Python objects beside its weights, which are never run here;"
            " save its state_dict alone: torch.save(net.state_dict(), path)"
        ) from error
    except DAMAGED as error:
        raise BundleError(f"{path} cannot be read as a PyTorch file ({error}); it is damaged or foreign") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise BundleError(f"{path} holds {type(content).__name__}, not the weights of a network by name")
    return {str(key).removeprefix("module."): _weight(key, value, path) for key, value in content.items()}


def _weight(key: object, value: object, where: Path) -> Tensor:
    if not isinstance(value, Tensor):
        raise BundleError(f"{where}: {key!r} is {type(value).__name__}, not a tensor; save its state_dict alone")
    if not torch.isfinite(value).all():
        raise BundleError(f"{where}: {key!r} holds NaN or infinite values; copy the file again")
    return value
