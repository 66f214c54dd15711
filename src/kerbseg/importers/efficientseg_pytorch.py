"""Imports EfficientSeg of any width, and the Minicity U-Net, from their authors' PyTorch files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.importers._torch_bundle import renamed, torch_bundle
from kerbseg.importers._torch_file import read_state_dict
from kerbseg.models.efficientseg import ENCODER, divisible

LICENSE = "its authors' repository is MIT licensed"
NAMED = {1.5: "efficientseg_1_5", 6.0: "efficientseg_6_0"}
MODELS = (*NAMED.values(), "efficientseg", "unet_minicity", "unet_minicity_bn")
EVALUATED = (512, 1024)  # the authors train on crops of pictures of about this size, and evaluate at it


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; network, width and classes follow from its keys and shapes.

    Raises BundleError for a damaged file and for weights that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS:
        raise KerbsegError(f"efficientseg-pytorch holds no {model!r}; {did_you_mean(model, MODELS)}")
    state = read_state_dict(source)
    name, options, last, modules = _recognize(state, source, model)
    if last not in state:
        raise BundleError(f"{source} lacks {last!r}, its last layer; is it another network?")
    if model not in (None, name):
        raise BundleError(f"{source} is {name}{options or ''}, not {model}")
    return torch_bundle(
        name,
        renamed(state, modules, source),
        modules,
        outputs=len(state[last]),
        labels=labels,
        source=source,
        license=LICENSE,
        options=options,
        input_size=EVALUATED,
        resample="bilinear" if name.startswith("unet") else "lanczos",  # as the authors' script looks at pictures
    )


def _recognize(
    state: Mapping[str, Tensor], source: Path, model: str | None
) -> tuple[str, dict[str, Any], str, dict[str, str]]:
    """The network's name and options, the key of its last layer, and their module names -> ours."""
    if "inc.conv.conv.0.weight" in state:
        normalized = "inc.conv.conv.1.weight" in state
        return "unet_minicity_bn" if normalized else "unet_minicity", {}, "outc.conv.bias", _unet(normalized)
    if "enc_layers.0.0.weight" not in state:
        raise BundleError(f"{source} holds neither 'enc_layers.0.0.weight' nor 'inc.conv.conv.0.weight': it is no"
                          " EfficientSeg and no Minicity U-Net")  # fmt: skip
    width = _width(state, source)
    last = f"dec_layers.{len(ENCODER)}.1.bias"
    if width in NAMED and model != "efficientseg":
        return NAMED[width], {}, last, _efficientseg()
    return "efficientseg", {"width": width}, last, _efficientseg()


def _width(state: Mapping[str, Tensor], source: Path) -> float:
    """The roundest width coefficient that gives every block the channels it has; rounding makes several alike."""
    try:
        stem = len(state["enc_layers.0.0.weight"])
        blocks = [len(state[f"enc_layers.{n}.conv.{5 if n == 1 else 8}.bias"]) for n in range(1, len(ENCODER) + 1)]
    except KeyError as error:
        raise BundleError(f"{source} lacks {error} for an EfficientSeg; is it another network?") from error
    around = range(max(1, int((stem - 8) / 16 * 100)), int((stem + 8) / 16 * 100) + 1)
    for step in (50, 25, 10, 5, 1):  # hundredths
        for width in (hundredths / 100 for hundredths in around if hundredths % step == 0):
            if [divisible(16 * width), *(divisible(row.channels * width) for row in ENCODER)] == [stem, *blocks]:
                return width
    raise BundleError(f"{source}: blocks of {blocks} channels fit no width of EfficientSeg; is it another network?")


def _efficientseg() -> dict[str, str]:
    names = {"enc_layers.0": "stem", "conv": "middle.0", "conv2": "middle.1", f"dec_layers.{len(ENCODER)}": "head"}
    names = {f"{theirs}.{i}": f"{ours}.{i}" for theirs, ours in names.items() for i in (0, 1)}
    blocks = {f"enc_layers.{n + 1}": f"encoder.{n}" for n in range(len(ENCODER))}
    blocks |= {f"dec_layers.{n}": f"decoder.{n}" for n in range(len(ENCODER))}
    for theirs, ours in blocks.items():
        names |= {f"{theirs}.conv.{i}": f"{ours}.layers.{i}" for i in range(9)}
        names |= {f"{theirs}.conv.{i}.fc.{j}": f"{ours}.layers.{i}.gate.{j}" for i in (3, 5) for j in (0, 2)}
    return names


def _unet(normalized: bool) -> dict[str, str]:
    """Theirs counts only the layers that are there; ours has a place for batch-norm either way."""
    layers = {0: 0, 1: 1, 3: 3, 4: 4} if normalized else {0: 0, 2: 3}
    blocks = {"inc.conv.conv": "first"}
    blocks |= {f"down{n}.mpconv.1.conv": f"down.{n - 1}" for n in range(1, 5)}
    blocks |= {f"up{n}.conv.conv": f"up.{n - 1}.conv" for n in range(1, 5)}
    names = {f"{theirs}.{i}": f"{ours}.{j}" for theirs, ours in blocks.items() for i, j in layers.items()}
    return names | {"outc.conv": "head"}
