"""Imports DDRNet as its authors publish it: PyTorch state dicts of the network and its loss, for Cityscapes or CamVid.

Written by the list of the names in those files, not tried on the files themselves. The order of the authors' CamVid
classes is not printed, so for 11 outputs the classes must be given. Their ImageNet files hold no segmentation network;
a training takes them as they are (`--init`).
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.importers._same_names import LAST, bundle_of_authors, require_network
from kerbseg.importers._torch_file import read_state_dict

MODELS = {32: "ddrnet_23_slim", 64: "ddrnet_23"}  # by the width of the first convolution


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; network and classes follow from its keys and shapes.

    Raises BundleError for a damaged file, for weights that are missing, unknown or of another shape, and for classes
    that nobody knows.
    """
    if model is not None and model not in MODELS.values():
        raise KerbsegError(f"ddrnet-pytorch holds no {model!r}; {did_you_mean(model, MODELS.values())}")
    state = read_state_dict(source)
    require_network(state, source, "ddrnet-pytorch")
    width = len(state["conv1.0.weight"])
    if width not in MODELS:
        raise BundleError(f"{source} begins with {width} channels, DDRNet-23-slim with 32 and DDRNet-23 with 64")
    if model not in (None, MODELS[width]):
        raise BundleError(f"{source} is {MODELS[width]}, not {model}; leave out --model")
    if labels is None and len(state[f"{LAST}.bias"]) in (len(label_set("camvid")), len(label_set("camvid")) + 1):
        raise BundleError(
            f"{source} has {len(state[f'{LAST}.bias'])} outputs; if they are CamVid's, the authors do not say in which"
            " order: name them in the order of the outputs, with --classes and your own dataset.yaml"
        )
    return bundle_of_authors(MODELS[width], state, labels, source)
