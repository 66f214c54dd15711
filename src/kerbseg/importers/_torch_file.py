"""Reads the weights in an authors' PyTorch file; nothing in the file is executed."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from kerbseg.core.errors import BundleError
from kerbseg.importers._files import bare_names, require_file

WRAPPERS = ("state_dict", "model_state_dict")  # keys under which training scripts keep the weights
DAMAGED = (  # what torch.load raises for bytes that it did not write: found by changing bytes at random
    RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, ImportError, AssertionError,
    ArithmeticError, MemoryError, struct.error, BadZipFile,
)  # fmt: skip
NUMBERS = {  # what weights and counters are kept in
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8, torch.int32, torch.int64,
}  # fmt: skip


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights of a file by key, on the CPU; unwrapped, without `module.`, `_layers.` and `model.` before the keys.

    Raises BundleError for a file that is missing, damaged, foreign, or holds more than weights and numbers.
    """
    require_file(path)
    try:
        _check_packing(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats and odd headers: either they can be read or not
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise BundleError(
            f"{path} is no PyTorch file, or holds Python objects beside its weights, which are never run here;"
            " save its state_dict alone: torch.save(net.state_dict(), path)"
        ) from error
    except DAMAGED as error:
        problem = str(error).partition(". ")[0]  # torch's goes on with what may have happened
        said = problem if " " in problem else type(error).__name__  # a number or nothing says less than its kind
        raise BundleError(
            f"{path} cannot be read as a PyTorch file ({said}); it is damaged or foreign: copy it again"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise BundleError(f"{path} holds {type(content).__name__}, not the weights of a network by name")
    return {name: _weight(key, content[key], path) for key, name in bare_names(content, path).items()}


def _check_packing(path: Path) -> None:
    """Raises BundleError for an archive that unpacks to more than it holds, or whose parts are not those written.

    torch.save never compresses; torch.load looks at no checksum.
    """
    if not is_zipfile(path):
        return  # older files are no archives
    with ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:
            raise BundleError(f"{path} is compressed, and unpacks to {unpacked:,} bytes; write it anew with torch.save")
        if damaged := archive.testzip():
            raise BundleError(f"{path} is damaged: {damaged!r} in it does not match its checksum; copy it again")


def _weight(key: object, value: object, where: Path) -> Tensor:
    if not isinstance(value, Tensor):
        raise BundleError(f"{where}: {key!r} is {type(value).__name__}, not a tensor; save its state_dict alone")
    if value.layout != torch.strided or value.is_quantized or value.is_meta or value.dtype not in NUMBERS:
        kind = "meta" if value.is_meta else "quantized" if value.is_quantized else value.layout
        raise BundleError(
            f"{where}: {key!r} is a tensor of {value.dtype} ({kind}); save plain weights:"
            " torch.save({key: value.to_dense().float() for key, value in state.items()}, path)"
        )
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():
        raise BundleError(
            f"{where}: {key!r} claims {list(value.shape)} numbers, more than the file holds; copy it again"
        )
    if not torch.isfinite(value).all():
        raise BundleError(f"{where}: {key!r} holds NaN or infinite values; copy the file again")
    return value
