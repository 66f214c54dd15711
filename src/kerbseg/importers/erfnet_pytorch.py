"""Imports ERFNet as its authors publish it: PyTorch state dicts of the network, its encoder, or its ImageNet encoder.

What is left out, and named in the card: of a whole network the 1x1 head that trained its encoder alone; of a whole
network imported as `erfnet_encoder` the decoder (the authors' files of the first stage hold an untrained one); of the
ImageNet encoder its classifier of 1000 classes. That encoder has no head to segment with: it gets one of zeros, and is
there to start a training from (`kerbseg train cityscapes/erfnet_pretrained --init OUT`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.importers._torch_bundle import renamed, torch_bundle
from kerbseg.importers._torch_file import read_state_dict

LICENSE = "its authors' repository is CC BY-NC 4.0: no commercial use of the weights"
MODELS = ("erfnet", "erfnet_encoder")
SAMPLER = ("conv", "bn")
BLOCK = ("conv3x1_1", "conv1x3_1", "bn1", "conv3x1_2", "conv1x3_2", "bn2")
ENCODER = (SAMPLER, SAMPLER, *[BLOCK] * 5, SAMPLER, *[BLOCK] * 8)
DECODER = (SAMPLER, BLOCK, BLOCK, SAMPLER, BLOCK, BLOCK)


@dataclass(frozen=True)
class Layout:
    """One way in which the authors save: which network it is, and where its weights are."""

    model: str
    modules: Mapping[str, str]  # theirs -> ours
    last: str  # their module whose outputs are the classes
    dropped: tuple[str, ...]
    left_out: str = ""  # the same in words, for the card


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; network and classes follow from its keys and shapes.

    Raises BundleError for a damaged file and for weights that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS:
        raise KerbsegError(f"erfnet-pytorch holds no {model!r}; {did_you_mean(model, MODELS)}")
    state = read_state_dict(source)
    if "features.encoder.initial_block.conv.weight" in state:
        return _imagenet(state, source, labels, model)
    layout = _recognize(state, source, model)
    if f"{layout.last}.bias" not in state:
        raise BundleError(f"{source} lacks '{layout.last}.bias', its last layer; is it another network?")
    weights = renamed(state, layout.modules, source, layout.dropped)
    there = any(key.rpartition(".")[0] in layout.dropped for key in state)
    return torch_bundle(
        layout.model,
        weights,
        layout.modules,
        outputs=len(state[f"{layout.last}.bias"]),
        labels=labels,
        source=source,
        license=f"{LICENSE}; left out: {layout.left_out}" if there else LICENSE,
    )


def _recognize(state: Mapping[str, Tensor], source: Path, model: str | None) -> Layout:
    if "initial_block.conv.weight" in state:  # the encoder saved by itself
        layout = Layout("erfnet_encoder", encoder_names("") | {"output_conv": "head"}, "output_conv", ())
    elif "encoder.initial_block.conv.weight" not in state:
        raise BundleError(f"{source} holds no 'encoder.initial_block.conv.weight': it is no ERFNet of its authors")
    elif model == "erfnet_encoder" or not any(key.startswith("decoder.") for key in state):
        modules, head = encoder_names("encoder."), "encoder.output_conv"
        layout = Layout("erfnet_encoder", modules | {head: "head"}, head, tuple(decoder_names()), "the decoder")
    else:
        unused = "encoder.output_conv"
        words = f"{unused}, the head that trained the encoder alone"
        modules = encoder_names("encoder.") | decoder_names()
        layout = Layout("erfnet", modules, "decoder.output_conv", (unused,), words)
    if model not in (None, layout.model):
        raise BundleError(f"{source} is {layout.model}, not {model}; it holds no decoder")
    return layout


def _imagenet(state: Mapping[str, Tensor], source: Path, labels: LabelSet | None, model: str | None) -> Bundle:
    if model != "erfnet_encoder":
        raise BundleError(
            f"{source} is ERFNet's encoder under an ImageNet classifier, which segments nothing yet; to start a"
            " training from it, import it with --model erfnet_encoder, then:"
            " kerbseg train cityscapes/erfnet_pretrained --init"
        )
    labels = labels or label_set("cityscapes")
    modules = encoder_names("features.encoder.")
    weights = renamed(state, modules, source, dropped=("classifier.linear",))
    weights |= {"head.weight": torch.zeros(len(labels), 128, 1, 1), "head.bias": torch.zeros(len(labels))}
    return torch_bundle(
        "erfnet_encoder",
        weights,
        modules,
        outputs=len(labels),
        labels=labels,
        source=source,
        license=f"{LICENSE}; left out: classifier.linear, of ImageNet; the head is zero: train it before use",
    )


def encoder_names(prefix: str) -> dict[str, str]:
    """The authors' name of every module with weights in their encoder -> ours."""
    theirs = ("initial_block", *(f"layers.{n}" for n in range(len(ENCODER) - 1)))
    return {
        f"{prefix}{name}.{leaf}": f"encoder.{n}.{leaf}"
        for n, (name, leaves) in enumerate(zip(theirs, ENCODER, strict=True))
        for leaf in leaves
    }


def decoder_names() -> dict[str, str]:
    """The authors' name of every module with weights in their decoder -> ours."""
    names = {f"decoder.layers.{n}.{leaf}": f"decoder.{n}.{leaf}" for n, leaves in enumerate(DECODER) for leaf in leaves}
    return names | {"decoder.output_conv": f"decoder.{len(DECODER)}"}
