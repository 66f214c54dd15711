"""What the importers of DDRNet and PIDNet share: our modules are named as the authors', and the same is left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

import kerbseg.models as models
from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError
from kerbseg.core.labels import LabelSet
from kerbseg.core.outline import outlines
from kerbseg.importers._torch_bundle import recognized_labels, renamed, torch_bundle

LICENSE = (
    "its authors' repository is under the MIT License, and the terms of the data that it was trained on go with its"
    " weights"
)
LAST = "final_layer.conv2"  # its outputs are the classes
LOSSES = ("loss.criterion", "sem_loss.criterion")  # the classes' weights in the loss, kept in the authors' files
SIZES = {"cityscapes": (1024, 2048), "camvid": (720, 960)}  # at which the authors evaluate, by label set


def require_network(state: Mapping[str, Tensor], source: Path, format: str) -> None:
    """Raises BundleError for weights without the first or the last layer, such as those of an ImageNet encoder."""
    first = state.get("conv1.0.weight")
    if first is None or first.ndim != 4:
        raise BundleError(f"{source} holds no convolution 'conv1.0.weight': it is no network of {format}")
    if f"{LAST}.bias" in state:
        if state[f"{LAST}.bias"].ndim != 1:
            raise BundleError(f"{source}: '{LAST}.bias' is {list(state[f'{LAST}.bias'].shape)}, not a number a class")
        return
    network = format.removesuffix("-pytorch")
    raise BundleError(
        f"{source} lacks '{LAST}.bias', its last layer. If it is an encoder trained on ImageNet, it segments nothing"
        f" yet; start a training of a {network} from it, as it is: kerbseg train ... --init {source.name}"
    )


def bundle_of_authors(
    name: str, state: Mapping[str, Tensor], labels: LabelSet | None, source: Path, remarks: Collection[str] = ()
) -> Bundle:
    """The network of that name with weights under its own names; heads that training needed and losses are left out.

    Raises BundleError unless all of them fit and none is missing.
    """
    outputs = len(state[f"{LAST}.bias"])
    labels = recognized_labels(outputs, labels, source)
    with outlines():
        net, headed = (models.create_model(name, heads=heads) for heads in (False, True))
    modules = {module: module for module, _ in net.named_modules()}
    heads = [module for module, _ in headed.named_modules() if module.startswith(headed.heads)]
    left = sorted({key.partition(".")[0] for key in state if key.rpartition(".")[0] in (*heads, *LOSSES)})
    words = [LICENSE, *([f"left out: {', '.join(left)}, of training"] if left else []), *remarks]
    return torch_bundle(
        name,
        renamed(state, modules, source, dropped=(*heads, *LOSSES)),
        modules,
        outputs=outputs,
        labels=labels,
        source=source,
        license="; ".join(words),
        input_size=SIZES.get(labels.name),
    )
