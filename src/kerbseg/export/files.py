"""Exported files: written aside, checked against torch, and moved to their place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8

from kerbseg.bundle import Bundle, check_finite, load
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.data import open_dataset
from kerbseg.export.parity import FLOOR, Parity, parity, pictures_of
from kerbseg.exported_card import MOST_PICTURES
from kerbseg.runtime import Engine
from kerbseg.runtime.engines import exporting, files_of, suffix_of

Pictures = Sequence[UInt8[np.ndarray, "h w 3"]]

COMPARED = 8  # pictures on which a file is compared with torch


def export(
    model: Bundle | str | Path,
    path: str | Path,
    size: tuple[int, int] | None = None,
    *,
    pictures: Pictures | None = None,
    logits: bool = False,
    batch: int | None = None,
    floor: float = FLOOR,
) -> Parity:
    """Writes a bundle as ONNX (.onnx) or OpenVINO (.xml and .bin), and says how far it agrees with torch.

    The bundle is one, its file, a run's folder or the name of shipped weights. `size` (height, width) is the only size
    that the file takes; the bundle's own without it. `batch` is the only number of pictures that it takes at once; any
    without it. With `logits` the file has a second output, the logits before the
    last interpolation. Raises KerbsegError where fewer than `floor` of the pixels of `pictures` (drawn streets without
    them) agree, or for another ending; nothing is written then.
    """
    bundle = model if isinstance(model, Bundle) else load(model)
    path, size = Path(path), size or bundle.card.input_size
    write = engine_of(path).writer()
    if batch is not None and not 1 <= batch <= MOST_PICTURES:
        raise KerbsegError(f"batch is {batch}; give 1 to {MOST_PICTURES} pictures, or leave it out for any number")
    check_finite(bundle.model.state_dict(), path.name)
    if pictures is None:
        pictures = pictures_of(open_dataset("scenes", "val"), size, COMPARED)
    with TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        write(bundle, made, size, logits, **({} if batch is None else {"batch": batch}))
        agreement = parity(bundle, made, pictures).checked(path, floor)
        install(made, path)
    return agreement


def engine_of(path: Path) -> Engine:
    """The engine that a file is written for. Raises KerbsegError for an ending that nothing is written for."""
    engines = exporting()
    if (suffix := suffix_of(path)) not in engines:
        raise KerbsegError(f"{path} has no ending that can be exported to; choose {' or '.join(engines)}")
    return engines[suffix]


def install(made: Path, path: Path) -> None:
    """Moves finished files to their place, the one that is opened last."""
    for source, target in zip(files_of(made), files_of(path), strict=True):
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)
