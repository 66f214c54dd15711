"""Imports PP-LiteSeg-T as its authors publish it: `.pdparams` of PaddleSeg, for Cityscapes or CamVid.

Written by the list of the names in those files, not tried on the files themselves. The order of the authors' CamVid
classes was not seen, so for 11 outputs the classes must be given. Their ImageNet file of STDC1 holds no segmentation
network; a training takes it as it is (`--init`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from torch import Tensor

import kerbseg.models as models
from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.outline import outlines
from kerbseg.importers._paddle_file import read_paddle
from kerbseg.importers._torch_bundle import renamed, torch_bundle

LICENSE = (
    "its authors' repository is under the Apache License 2.0, and the terms of the data that it was trained on go with"
    " its weights"
)
MODEL = "pp_liteseg_t"
LAST = "seg_heads.0.conv_out.weight"  # its outputs are the classes; it has no bias
LEAVES = {"_mean": "running_mean", "_variance": "running_var", "_scale": "scale"}  # Paddle's -> torch's, and ours


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; its classes follow from its last layer.

    Raises BundleError for a damaged file, for weights that are missing, unknown or of another shape, and for classes
    that nobody knows.
    """
    if model not in (None, MODEL):
        raise KerbsegError(f"pp_liteseg-paddle holds no {model!r}; {did_you_mean(str(model), [MODEL])}")
    state = read_weights(source)
    if "backbone.features.8.conv_list.0.conv.weight" in state:
        raise BundleError(f"{source} is PP-LiteSeg-B, on STDC2, which kerbseg does not have; it has {MODEL}, on STDC1")
    if LAST not in state or state[LAST].ndim != 4:
        encoder = "features.0.conv.weight" in state
        raise BundleError(
            f"{source} is an encoder trained on ImageNet, which segments nothing yet; start a training of a {MODEL}"
            f" from it, as it is: kerbseg train ... --init {source.name}"
            if encoder
            else f"{source} lacks {LAST!r}, PP-LiteSeg's last layer; is it another network?"
        )
    outputs = len(state[LAST])
    if labels is None and outputs in (len(label_set("camvid")), len(label_set("camvid")) + 1):
        raise BundleError(
            f"{source} has {outputs} outputs; if they are CamVid's, the order in which its authors' data set holds them"
            " is not known here: name them in the order of the outputs, with --classes and your own dataset.yaml"
        )
    modules = module_names()
    dropped = [name for name in module_names(heads=True) if name not in modules]
    there = any(key.rpartition(".")[0] in dropped for key in state)
    return torch_bundle(
        MODEL,
        renamed(state, modules, source, dropped=dropped),
        modules,
        outputs=outputs,
        labels=labels,
        source=source,
        license=f"{LICENSE}; left out: seg_heads.1, seg_heads.2, of training" if there else LICENSE,
        leaves=LEAVES,
    )


def read_weights(source: Path) -> dict[str, Tensor]:
    """The weights of a Paddle file under the authors' names of modules and torch's of what batch-norm has."""
    state = {}
    for key, value in read_paddle(source).items():
        module, dot, leaf = key.rpartition(".")
        state[f"{module}{dot}{LEAVES.get(leaf, leaf)}"] = value
    return state


def initial_weights(source: Path) -> dict[str, Tensor]:
    """The weights of a Paddle file under our names where they are PP-LiteSeg's or of its encoder on ImageNet."""
    ours = module_names(heads=True)
    # the encoder alone has no `backbone.` before its names
    names = {theirs.removeprefix("backbone."): name for theirs, name in ours.items()} | ours
    state = {}
    for key, value in read_weights(source).items():
        module, dot, leaf = key.rpartition(".")
        state[f"{names.get(module, module)}{dot}{leaf}"] = value
    return state


@cache
def module_names(heads: bool = False) -> dict[str, str]:
    """The authors' name of every module with weights -> ours."""
    with outlines():
        net = models.create_model(MODEL, heads=heads)
    own = {key.rpartition(".")[0] for key in net.state_dict()}
    return {_theirs(name): name for name, _ in net.named_modules() if name in own}


def _theirs(name: str) -> str:
    """What the authors call a module of ours: in the decoder a unit's parts begin with underscores."""
    if name.startswith("backbone."):
        return name
    name = re.sub(r"(?<=\.stages)(\.\d)", r"\1.1", name)  # theirs holds the pooling, too
    return re.sub(r"\.bn$", "._batch_norm", re.sub(r"\.conv$", "._conv", name))
