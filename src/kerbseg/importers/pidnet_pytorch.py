"""Imports PIDNet as its authors publish it: PyTorch state dicts of the network and its loss, for Cityscapes or CamVid.

Written by the list of the names in those files, not tried on the files themselves. The authors' CamVid classes are ours
in another order (by the alphabet): the outputs are turned here. They were trained with fewer pixels each, since colors
of CamVid's 32 that we merge into these 11 were ignored. Their ImageNet files hold no segmentation network; a training
takes them as they are (`--init`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.importers._same_names import LAST, bundle_of_authors, require_network
from kerbseg.importers._torch_file import read_state_dict

MODELS = ("pidnet_s", "pidnet_m", "pidnet_l")
CAMVID = (  # the authors' order: Bicyclist, Building, Car, Column_Pole, ... in our words
    "bicyclist", "building", "car", "pole", "fence", "pedestrian", "road", "pavement", "sign_symbol", "sky", "tree",
)  # fmt: skip


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of an authors' file; network and classes follow from its keys and shapes.

    Eleven outputs are CamVid's in the authors' order, unless other classes are given. Raises BundleError for a damaged
    file and for weights that are missing, unknown or of another shape.
    """
    if model is not None and model not in MODELS:
        raise KerbsegError(f"pidnet-pytorch holds no {model!r}; {did_you_mean(model, MODELS)}")
    state = read_state_dict(source)
    require_network(state, source, "pidnet-pytorch")
    name = _recognize(state, source)
    if model not in (None, name):
        raise BundleError(f"{source} is {name}, not {model}; leave out --model")
    camvid = label_set("camvid")
    if len(state[f"{LAST}.bias"]) == len(CAMVID) and labels in (None, camvid):
        rows = [CAMVID.index(each) for each in camvid.classes]
        state |= {key: state[key][rows] for key in (f"{LAST}.weight", f"{LAST}.bias") if _is_a_row_a_class(state, key)}
        remark = "outputs turned from the authors' order of CamVid's classes to ours; trained on fewer of the 32 colors"
        return bundle_of_authors(name, state, camvid, source, [remark])
    return bundle_of_authors(name, state, labels, source)


def _is_a_row_a_class(state: Mapping[str, Tensor], key: str) -> bool:
    """What is not is refused later, as missing or of another shape."""
    return key in state and state[key].shape[:1] == (len(CAMVID),)


def _recognize(state: Mapping[str, Tensor], source: Path) -> str:
    """Which of the three, by the width of the first convolution and the kind of the pyramid."""
    width, deep = len(state["conv1.0.weight"]), "spp.process1.0.weight" in state
    if not deep and "spp.scale_process.0.weight" not in state:
        raise BundleError(
            f"{source} holds neither 'spp.scale_process.0.weight' nor 'spp.process1.0.weight': it is no PIDNet"
        )
    if "pag3.f_x.0.weight" not in state:  # DDRNet's pyramid is that of PIDNet-L
        raise BundleError(f"{source} holds no 'pag3.f_x.0.weight': it is no PIDNet; is it a DDRNet (ddrnet-pytorch)?")
    name = {(32, False): "pidnet_s", (64, False): "pidnet_m", (64, True): "pidnet_l"}.get((width, deep))
    if name is None:
        raise BundleError(f"{source} begins with {width} channels, PIDNet-S with 32, PIDNet-M and -L with 64")
    return name
