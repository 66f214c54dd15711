"""What the importers of PyTorch checkpoints share: names turned into ours, and the bundle of the result."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, load_strictly, versions
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
) -> Bundle:
    """A registered network with a file's weights, renamed by `modules` (theirs -> ours).

    Raises BundleError unless all of them fit and none is missing. One exception: files older than torch 0.4.1 lack
    batch-norm's counters of batches; they stay zero.
    """
    options, labels = options or {}, recognized_labels(outputs, labels, source)
    network = models.create_model(name, outputs, **options)
    weights = _counters(network) | dict(state)
    for key in (key for key in network.state_dict() if key not in weights):
        raise BundleError(f"{source} lacks {_theirs(key, modules)!r} for a {name}; is it another network?")
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


def _theirs(key: str, modules: Mapping[str, str]) -> str:
    """A key of ours as the file's reader knows it."""
    module, _, leaf = key.rpartition(".")
    return next(f"{theirs}.{leaf}" for theirs, ours in modules.items() if ours == module)


def _counters(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
