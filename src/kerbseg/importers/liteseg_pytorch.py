"""Imports LiteSeg as its authors publish it: PyTorch state dicts for three backbones.

Their files carry the ImageNet heads of MobileNetV2 and ShuffleNet, which no segmentation uses: they are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.importers._torch_bundle import renamed, torch_bundle
from kerbseg.importers._torch_file import read_state_dict

LICENSE = "its authors' repository is CC BY-NC 4.0: no commercial use of the weights"
MODELS = {  # first part of the backbone's keys -> network
    "mobile_features": "liteseg_mobilenet_v2",
    "shuffle_features": "liteseg_shufflenet",
    "resnet_features": "liteseg_darknet19",
}
UNUSED = ("mobile_features.classifier.1", "shuffle_features.fc")  # the ImageNet heads


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; the backbone follows from its keys, the classes from its last layer.

    Raises BundleError for a damaged file and for weights that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS.values():
        raise KerbsegError(f"liteseg-pytorch holds no {model!r}; {did_you_mean(model, MODELS.values())}")
    # the authors wrapped ShuffleNet alone for several GPUs, within the network
    state = {key.replace("_features.module.", "_features."): value for key, value in read_state_dict(source).items()}
    present = {name for part, name in MODELS.items() if any(key.startswith(f"{part}.") for key in state)}
    if len(present) != 1 or (model and model not in present):
        raise BundleError(
            f"{source} is no {model or 'LiteSeg'}: it holds keys of {sorted(present) or 'no backbone'};"
            " name the format of its own authors, or leave out --model"
        )
    [name] = present
    modules = module_names(name)
    weights = renamed(state, modules, source, dropped=UNUSED)
    return torch_bundle(
        name, weights, modules, outputs=_outputs(weights, source), labels=labels, source=source, license=LICENSE
    )


def _outputs(weights: Mapping[str, Tensor], source: Path) -> int:
    if "decoder.2.bias" not in weights:
        raise BundleError(f"{source} lacks 'last_conv.6.bias', LiteSeg's last layer; is it another network?")
    return len(weights["decoder.2.bias"])


def module_names(model: str) -> dict[str, str]:
    """The authors' name of every module with weights -> ours."""
    backbone = {
        "liteseg_mobilenet_v2": _mobilenet,
        "liteseg_shufflenet": _shufflenet,
        "liteseg_darknet19": _darknet,
    }[model]()
    part = next(part for part, name in MODELS.items() if name == model)
    return {f"{part}.{theirs}": f"backbone.{ours}" for theirs, ours in backbone.items()} | _segmentation()


def _mobilenet() -> dict[str, str]:
    names: dict[str, str] = {}
    for number in range(19):
        ours = f"low_features.{number}" if number < 4 else f"features.{number - 4}"
        theirs = f"features.{number}"
        if number in (0, 18):
            names |= {f"{theirs}.{i}": f"{ours}.{i}" for i in (0, 1)}
            continue
        parts = {0: "expand.0", 1: "expand.1", 3: "depthwise.0", 4: "depthwise.1", 6: "project", 7: "bn"}
        missing = 3 if number == 1 else 0  # the first unit does not widen
        names |= {f"{theirs}.conv.{i - missing}": f"{ours}.{part}" for i, part in parts.items() if i >= missing}
    return names


def _shufflenet() -> dict[str, str]:
    parts = {
        "g_conv_1x1_compress.conv1x1": "compress",
        "g_conv_1x1_compress.batch_norm": "compress_bn",
        "depthwise_conv3x3": "depthwise",
        "bn_after_depthwise": "depthwise_bn",
        "g_conv_1x1_expand.conv1x1": "expand",
        "g_conv_1x1_expand.batch_norm": "expand_bn",
    }
    return {"conv1": "stem.0"} | {
        f"stage{stage}.ShuffleUnit_Stage{stage}_{unit}.{theirs}": f"stage{stage}.{unit}.{ours}"
        for stage, units in ((2, 4), (3, 8), (4, 4))
        for unit in range(units)
        for theirs, ours in parts.items()
    }


def _darknet() -> dict[str, str]:
    # they number layers and pools alike, from 1
    return {
        f"layers.{n}_convbatch.layers.{i}": f"low_features.{n - 1}.{i}" if n <= 7 else f"features.{n - 8}.{i}"
        for n in range(1, 24)
        for i in (0, 1)
    }


def _segmentation() -> dict[str, str]:
    separable = {
        "aspp1.atrous_convolution": "pyramid.point.0",
        "conv1": "pyramid.fusion.0",
        "conv2": "reduction.0",
        "last_conv.0": "decoder.0.0",
        "last_conv.3": "decoder.1.0",
    }
    others = {
        "aspp1.bn": "pyramid.point.1",
        "global_avg_pool.1": "pyramid.context.unit.0",
        "global_avg_pool.2": "pyramid.context.unit.1",
        "bn1": "pyramid.fusion.1",
        "bn2": "reduction.1",
        "last_conv.1": "decoder.0.1",
        "last_conv.4": "decoder.1.1",
        "last_conv.6": "decoder.2",
    }
    for rate in range(3):
        theirs, ours = f"aspp{rate + 2}", f"pyramid.atrous.{rate}"
        separable |= {f"{theirs}.atrous_convolution": f"{ours}.0", f"{theirs}.conv1": f"{ours}.2.0"}
        others |= {f"{theirs}.bn": f"{ours}.1", f"{theirs}.bn1": f"{ours}.2.1"}
    for theirs, ours in separable.items():
        others |= {f"{theirs}.conv1": f"{ours}.0", f"{theirs}.pointwise": f"{ours}.1"}
    return others
