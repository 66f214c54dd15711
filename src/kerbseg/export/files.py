"""Exported files: written aside, checked against torch, and moved to their place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8

from kerbseg.bundle import Bundle
from kerbseg.core.errors import UserError
from kerbseg.core.files import atomic_write
from kerbseg.export.onnx import write_onnx
from kerbseg.export.openvino import write_openvino
from kerbseg.export.parity import FLOOR, Parity, parity

WRITERS = {".onnx": write_onnx, ".xml": write_openvino}

Pictures = Sequence[UInt8[np.ndarray, "h w 3"]]


def export(
    bundle: Bundle,
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    pictures: Pictures,
    scores: bool = False,
    floor: float = FLOOR,
) -> Parity:
    """Writes a bundle as ONNX (.onnx) or OpenVINO (.xml and .bin), and says how far it agrees with torch.

    `size` (height, width) is the only size that the file takes; the bundle's own without it. With `scores` the file has
    a second output, the scores before the last interpolation. Raises UserError where fewer than `floor` of the pixels
    of `pictures` agree, or for another ending; nothing is written then.
    """
    path, size = checked_path(path), size or bundle.card.input_size
    with TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        WRITERS[path.suffix](bundle, made, size, scores)
        found = parity(bundle, made, pictures).checked(path, floor)
        install(made, path)
    return found


def size_bytes(path: Path) -> int:
    """Of a model's file, and of its weights where they are beside it."""
    return sum(file.stat().st_size for file in (path, *_beside(path)))


def checked_path(path: str | Path) -> Path:
    """The path. Raises UserError for an ending that nothing is written for."""
    path = Path(path)
    if path.suffix not in WRITERS:
        raise UserError(f"{path} has no ending that can be exported to; choose {' or '.join(WRITERS)}")
    return path


def _beside(path: Path) -> list[Path]:
    return [path.with_suffix(".bin")] if path.suffix == ".xml" else []


def install(made: Path, path: Path) -> None:
    """Moves finished files to their place, the graph last."""
    for source in (*_beside(made), made):
        with atomic_write(path.with_suffix(source.suffix)) as temporary:
            shutil.copyfile(source, temporary)
