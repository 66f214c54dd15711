"""What the importers of PyTorch checkpoints share: names turned into ours, and the bundle of the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, check_variance, load_strictly, versions
from kerbseg.core.errors import BundleError
from kerbseg.core.labels import LABEL_SETS, LabelSet, label_set
from kerbseg.core.resize import Resample
from kerbseg.core.types import Preprocessing
from kerbseg.importers import origin

PUBLISHED = ("cityscapes", "camvid")  # label sets of the weights that these formats' authors published


def renamed(
    state: Mapping[str, Tensor], modules: Mapping[str, str], where: Path, dropped: Collection[str] = ()
) -> dict[str, Tensor]:
    """The state with every module's name changed to ours; `dropped` modules are left out, unknown ones refused."""
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if module in modules:
            ours[f"{modules[module]}.{leaf}"] = value
        elif module not in dropped:
            raise BundleError(f"{where} holds an unknown {key!r}; is it another network?")
    return ours


def torch_bundle(
    name: str,
    state: Mapping[str, Tensor],
    modules: Mapping[str, str],
    *,
    outputs: int,
    labels: LabelSet | None,
    source: Path,
    license: str,
    options: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    resample: Resample = "bilinear",
    leaves: Mapping[str, str] | None = None,
) -> Bundle:
    """A registered network with a file's weights, renamed by `modules` (theirs -> ours), in float32.

    `leaves` are the file's words for the last part of a name, where they are not torch's (theirs -> torch's).
    Raises BundleError, with the file's own names, unless all of them fit and none is missing. One exception: files
    older than torch 0.4.1 lack batch-norm's counters of batches; they stay zero.
    """
    options, labels = options or {}, recognized_labels(outputs, labels, source)
    network = models.create_model(name, outputs, **options)
    own = network.state_dict()
    weights = _counters(network)
    for key, value in state.items():
        theirs = _theirs(key, modules, leaves)
        if key not in own:
            raise BundleError(f"{source} holds an unknown {theirs!r} for a {name}; is it another network?")
        weights[key] = _fitted(value, own[key], f"{source}: {theirs!r}")
        check_variance(key, value, f"{source}: {theirs!r}")
    for key in (key for key in own if key not in weights):
        raise BundleError(f"{source} lacks {_theirs(key, modules, leaves)!r} for a {name}; is it another network?")
    load_strictly(network, weights, str(source))
    card = BundleCard(
        model=name,
        labels=labels,
        preprocessing=preprocessing or models.card(name).preprocessing,
        input_size=input_size or models.card(name).input,
        outputs=outputs,
        options=options,
        source=origin([source], license),
        versions=versions(),
        resample=resample,
    )
    return Bundle(network.eval(), card)


def recognized_labels(outputs: int, labels: LabelSet | None, where: Path) -> LabelSet:
    """The given label set, or the one with as many classes as the file has outputs, but for a last one for void."""
    if labels is not None:
        if outputs not in (len(labels), len(labels) + 1):
            raise BundleError(
                f"{where} has {outputs} outputs, label set {labels.name!r} has {len(labels)} classes;"
                " name another with --classes"
            )
        return labels
    for spare in (0, 1):
        for known in map(label_set, PUBLISHED):
            if len(known) == outputs - spare:
                return known
    raise BundleError(
        f"{where} has {outputs} outputs, which is no number of classes that its authors published; say what they are"
        f" with --classes ({', '.join(LABEL_SETS)}, or your own dataset.yaml)"
    )


def _fitted(value: Tensor, wanted: Tensor, which: str) -> Tensor:
    """A weight in the network's precision. Raises BundleError where it does not fit."""
    if value.shape != wanted.shape:
        raise BundleError(
            f"{which} is {list(value.shape)}, the network needs {list(wanted.shape)}; another class count or width?"
        )
    if value.is_floating_point() != wanted.is_floating_point():
        raise BundleError(f"{which} is {value.dtype}, the network needs {wanted.dtype}; is it another network?")
    fitted = value.to(wanted.dtype)
    if not torch.isfinite(fitted).all():
        raise BundleError(f"{which} holds numbers beyond {wanted.dtype}; copy the file again")
    return fitted


def _theirs(key: str, modules: Mapping[str, str], leaves: Mapping[str, str] | None = None) -> str:
    """A key of ours as the file's reader knows it; ours where the file has nothing of the kind."""
    module, _, leaf = key.rpartition(".")
    theirs = next((theirs for theirs, ours in modules.items() if ours == module), module)
    return f"{theirs}.{next((word for word, ours in (leaves or {}).items() if ours == leaf), leaf)}"


def _counters(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
