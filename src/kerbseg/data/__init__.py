"""Data sets: raw uint8 samples with train ids. A new one is a file here and a line in `DATASETS`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kerbseg.core.errors import DataError, nearest
from kerbseg.core.types import Dataset
from kerbseg.data.camvid import CamVid

DATASETS: dict[str, Callable[[Path, str], Dataset]] = {"camvid": CamVid}

NEEDS_NO_ROOT = frozenset({"scenes"})


def open_dataset(name: str, split: str, root: str | Path | None = None) -> Dataset:
    """One split of a data set. Without `root` it is looked for at `$KERBSEG_DATA/<name>`.

    Raises DataError for an unknown name or split, or a missing or empty root.
    """
    if name not in DATASETS:
        raise DataError(f"unknown data set {name!r}; {nearest(name, DATASETS)}")
    return DATASETS[name](data_root(name, root), split)


def data_root(name: str, root: str | Path | None = None) -> Path:
    """The folder of a data set: `root`, or `$KERBSEG_DATA/<name>`. Raises DataError if there is none."""
    if name in NEEDS_NO_ROOT:
        return Path()
    if root is None:
        if "KERBSEG_DATA" not in os.environ:
            raise DataError(
                f"no root for data set {name!r}; pass --data-root or set KERBSEG_DATA to the folder above it"
            )
        root = Path(os.environ["KERBSEG_DATA"]) / name
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data root {root} does not exist; check --data-root or KERBSEG_DATA")
    return root
