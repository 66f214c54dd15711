"""Imports ESPNet as its authors publish it: PyTorch state dicts of ESPNet ('decoder') and of ESPNet-C ('encoder').

Depths (alpha2, alpha3) and classes follow from the file. Its last merge tells what it was trained on: 16 channels of
level 1 in the files for Cityscapes, 19 with the picture in the one for CamVid and in what the training script makes.

At level 2 the authors put what the modules made before what they were given, and ours the other way round: whatever
reads that map has its channels turned here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Preprocessing
from kerbseg.importers._torch_bundle import recognized_labels, renamed, torch_bundle
from kerbseg.importers._torch_file import read_state_dict

LICENSE = "its authors' repository is under the MIT License"
MODELS = ("espnet", "espnet_c")
CAMVID = Preprocessing(
    channels="bgr",
    mean=(110.3310264 / 255, 108.4088632 / 255, 105.0331937 / 255),
    std=(72.12571015, 72.69074534, 69.90434816),
)
Pixels = tuple[Preprocessing | None, tuple[int, int] | None, str]  # None: as the network's card says
PIXELS: dict[str, Pixels] = {  # by label set: mean and spread of its training pictures, size, the card's words
    "cityscapes": (None, None, "mean and spread as the authors publish them"),
    "camvid": (
        CAMVID,
        (360, 480),
        "mean and spread are not published; those of CamVid's 367 training pictures, taken as the authors' script does",
    ),
}
UNKNOWN: Pixels = (None, None, "mean and spread of the training pictures are not in the file; Cityscapes' are used")
UNIT = {"c1.conv": "reduce", "d1.conv": "near", **{f"d{2**n}.conv": f"far.{n - 1}" for n in range(1, 5)}}
LEVEL2 = ("encoder.level2.norm.0", "encoder.level2.norm.1")  # what has one value a channel of the map of level 2
READERS = ("encoder.level3.down.reduce", "reduce2")  # what convolves it
HALF = 64  # channels of each of its two parts


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; network, depths and classes follow from its keys and shapes.

    Raises BundleError for a damaged file and for weights that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS:
        raise KerbsegError(f"espnet-pytorch holds no {model!r}; {did_you_mean(model, MODELS)}")
    state = read_state_dict(source)
    name, prefix = ("espnet", "encoder.") if any(key.startswith("encoder.") for key in state) else ("espnet_c", "")
    last = f"{prefix}classifier.conv.weight"  # of an ESPNet the first of its decoder, to as many classes
    if f"{prefix}level1.conv.weight" not in state or last not in state or state[last].ndim != 4:
        raise BundleError(f"{source} lacks '{prefix}level1.conv.weight' or '{last}': it is no ESPNet of its authors")
    if model not in (None, name):
        raise BundleError(f"{source} is {name}, not {model}; leave out --model")
    alpha2, alpha3 = (_depth(state, f"{prefix}level{level}.", source) for level in (2, 3))
    modules = module_names(name, alpha2, alpha3)
    weights = renamed(state, modules, source)
    options: dict[str, int | bool] = {"alpha2": alpha2, "alpha3": alpha3}
    if name == "espnet":
        options["merge_picture"] = _merges_picture(weights, source)
    labels = recognized_labels(len(state[last]), labels, source)
    preprocessing, size, words = PIXELS.get(labels.name, UNKNOWN)
    return torch_bundle(
        name,
        {key: _turned(key, value) for key, value in weights.items()},
        modules,
        outputs=len(state[last]),
        labels=labels,
        source=source,
        license=f"{LICENSE}; pixels: {words}",
        options=options,
        preprocessing=preprocessing,
        input_size=size,
    )


def _depth(state: Mapping[str, Tensor], prefix: str, source: Path) -> int:
    """How many modules a level has, by the numbers in its keys."""
    numbers = {key.removeprefix(prefix).partition(".")[0] for key in state if key.startswith(prefix)}
    if numbers != {str(n) for n in range(len(numbers))} or not numbers:
        raise BundleError(f"{source} numbers the modules of '{prefix}' {sorted(numbers)}, not 0, 1 ...; copy it again")
    return len(numbers)


def _merges_picture(weights: Mapping[str, Tensor], source: Path) -> bool:
    """Whether the last merge takes 19 channels of level 1, or 16."""
    key = "merge1.0.weight"
    if key not in weights or weights[key].ndim != 4:
        raise BundleError(f"{source} holds no 'conv.conv.weight' of a convolution; is it another network?")
    return weights[key].shape[1] == len(weights[key]) + 19


def _turned(key: str, value: Tensor) -> Tensor:
    """A weight with the two parts of level 2 in our order, along the axis that runs over its channels."""
    module = key.rpartition(".")[0]
    axis = 0 if module in LEVEL2 else 1 if module in READERS else None
    if axis is None or value.ndim <= axis or value.shape[axis] <= 2 * HALF:  # a counter, or refused as of another shape
        return value
    made, given, picture = value.split((HALF, HALF, value.shape[axis] - 2 * HALF), axis)
    return torch.cat((given, made, picture), axis)


def module_names(model: str, alpha2: int, alpha3: int) -> dict[str, str]:
    """The authors' name of every module with weights -> ours."""
    names = {"level1.conv": "level1.0", **_norm("level1", "level1.1"), **_norm("b1", "norm1")}
    for level, depth in ((2, alpha2), (3, alpha3)):
        names |= _esp(f"level{level}_0", f"level{level}.down") | _norm(f"level{level}_0", f"level{level}.down.norm")
        for n in range(depth):
            theirs, ours = f"level{level}.{n}", f"level{level}.modules_.{n}"
            names |= _esp(theirs, ours) | _norm(f"{theirs}.bn", f"{ours}.norm")
        names |= _norm(f"b{level}", f"level{level}.norm")
    if model == "espnet_c":
        return {theirs: f"encoder.{ours}" for theirs, ours in names.items()} | {"classifier.conv": "head"}
    names = {f"encoder.{theirs}": f"encoder.{ours}" for theirs, ours in names.items()}
    return names | {
        "encoder.classifier.conv": "reduce3",
        "br": "up3.0",
        "up_l3.0": "up3.1",
        "level3_C.conv": "reduce2",
        **_norm("combine_l2_l3.0", "merge2.0"),
        **_esp("combine_l2_l3.1", "merge2.1"),
        **_norm("combine_l2_l3.1.bn", "merge2.1.norm"),
        "up_l2.0": "up2.0",
        **_norm("up_l2.1", "up2.1"),
        "conv.conv": "merge1.0",
        **_norm("conv", "merge1.1"),
        "classifier": "up1",
    }


def _norm(theirs: str, ours: str) -> dict[str, str]:
    """A batch-norm with its PReLU."""
    return {f"{theirs}.bn": f"{ours}.0", f"{theirs}.act": f"{ours}.1"}


def _esp(theirs: str, ours: str) -> dict[str, str]:
    """The convolutions of an ESP module."""
    return {f"{theirs}.{leaf}": f"{ours}.{name}" for leaf, name in UNIT.items()}
