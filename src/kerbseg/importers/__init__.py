"""Bundles made of authors' own checkpoint files. A new format is a file here and a line in `FORMATS`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.importers import _torch_file

Importer = Callable[[Path, LabelSet | None, str | None], Bundle]


def _from(module: str) -> Importer:
    """The function `convert(source, labels, model)` of a module here, which is imported at the call."""

    def convert(source: Path, labels: LabelSet | None, model: str | None) -> Bundle:
        bundle: Bundle = import_module(f"{__name__}.{module}").convert(source, labels, model)
        return bundle

    return convert


FORMATS: dict[str, Importer] = {
    "ddrnet-pytorch": _from("ddrnet_pytorch"),
    "efficientseg-pytorch": _from("efficientseg_pytorch"),
    "erfnet-pytorch": _from("erfnet_pytorch"),
    "espnet-pytorch": _from("espnet_pytorch"),
    "fast_scnn-pytorch": _from("fast_scnn_pytorch"),
    "liteseg-pytorch": _from("liteseg_pytorch"),
    "mininet-tf": _from("mininet_tf"),
    "pidnet-pytorch": _from("pidnet_pytorch"),
    "pp_liteseg-paddle": _from("pp_liteseg_paddle"),
}


def import_checkpoint(
    format: str, source: str | Path, labels: LabelSet | None = None, model: str | None = None
) -> Bundle:
    """The bundle of an authors' checkpoint; its labels and network are recognized where they are not given.

    Raises KerbsegError for an unknown format, BundleError for a file that is damaged, foreign or does not fit.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise KerbsegError(f"unknown checkpoint format {format!r}; {did_you_mean(str(format), FORMATS)}")
    if not isinstance(source, str | Path):
        raise KerbsegError(f"a checkpoint is a path, not {type(source).__name__}; write: 'model.pth'")
    if not isinstance(labels, LabelSet | None):
        raise KerbsegError(f"labels are a LabelSet, not {labels!r}; write: label_set('camvid')")
    return FORMATS[format](Path(source), labels, model)


def read_initial_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file that a training starts from: of PyTorch, or of PaddlePaddle (`.pdparams`).

    Raises BundleError for a file that is damaged, foreign, or holds more than weights.
    """
    if path.suffix == ".pdparams":
        weights: dict[str, Tensor] = import_module(f"{__name__}.pp_liteseg_paddle").initial_weights(path)
        return weights
    return _torch_file.read_state_dict(path)


def origin(files: Sequence[Path], license: str) -> str:
    """A card's words on weights that are not ours: file names, their SHA-256, terms of use."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    names = ", ".join(path.name for path in files)
    return f"imported from {names} (sha256 {digest.hexdigest()}); {license}"
