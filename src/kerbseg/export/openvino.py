"""Writes a bundle as an OpenVINO model: an .xml with the graph and the card, and a .bin with the weights beside it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerbseg.bundle import Bundle
from kerbseg.core.errors import MissingExtra
from kerbseg.core.files import atomic_write
from kerbseg.export.onnx import converted as as_onnx
from kerbseg.runtime.exported import Exported
from kerbseg.runtime.openvino import RT_INFO, WEIGHTS_KEY, digest

if TYPE_CHECKING:
    import onnx


def write_openvino(bundle: Bundle, path: Path, size: tuple[int, int], scores: bool = False) -> Exported:
    """Writes both files and returns their cards; weights stay float32. Parameters and errors as `write_onnx`."""
    model, exported = converted(bundle, size, scores)
    save(model, exported, path)
    return exported


def converted(bundle: Bundle, size: tuple[int, int], scores: bool = False) -> tuple[Any, Exported]:
    """The network as an `openvino.Model`, and its cards."""
    model, exported = as_onnx(bundle, size, scores)
    return of_onnx(model), exported


def of_onnx(model: onnx.ModelProto) -> Any:
    """The `openvino.Model` of an ONNX graph."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtra("openvino", "openvino") from error
    return openvino.convert_model(BytesIO(model.SerializeToString()))


def save(model: Any, exported: Exported, path: Path) -> None:
    """Writes `path` (.xml) and its .bin, tied together by the digest of the weights in the card."""
    import openvino

    for key, value in exported.to_metadata().items():
        model.set_rt_info(value, [RT_INFO, key])
    with atomic_write(path.with_suffix(".bin")) as weights, atomic_write(path) as graph:
        openvino.save_model(model, graph, compress_to_fp16=False)
        model.set_rt_info(digest(weights), [RT_INFO, WEIGHTS_KEY])
        openvino.save_model(model, graph, compress_to_fp16=False)
