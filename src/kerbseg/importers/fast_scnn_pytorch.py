"""Imports Fast-SCNN in the layout of a public PyTorch version (Tramac/Fast-SCNN-pytorch), `fast_scnn_public` here.

Its paper's authors published no code and no weights. Written by the list of the names in that version's files, not
tried on the files themselves.
"""

from __future__ import annotations

from pathlib import Path

import kerbseg.models as models
from kerbseg.bundle import Bundle
from kerbseg.core.errors import BundleError, KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.core.outline import outlines
from kerbseg.importers._torch_bundle import renamed, torch_bundle
from kerbseg.importers._torch_file import read_state_dict

LICENSE = (
    "the repository that published it, not its paper's authors', is under the Apache License 2.0, and the terms of the"
    " data that it was trained on go with its weights"
)
MODEL = "fast_scnn_public"
LAST = "classifier.conv.1.bias"
HEAD = "auxlayer"  # needed in training alone
EVALUATED = (1024, 2048)


def convert(source: Path, labels: LabelSet | None = None, model: str | None = None) -> Bundle:
    """The bundle of such a file; its classes follow from its last layer.

    Raises BundleError for a damaged file and for weights that are missing, unknown or of another shape.
    """
    if model not in (None, MODEL):
        raise KerbsegError(f"fast_scnn-pytorch holds no {model!r}; {did_you_mean(str(model), [MODEL])}")
    state = read_state_dict(source)
    if LAST not in state or state[LAST].ndim != 1:
        raise BundleError(f"{source} lacks {LAST!r}, Fast-SCNN's last layer; is it another network?")
    modules = module_names()
    there = any(key.startswith(f"{HEAD}.") for key in state)
    return torch_bundle(
        MODEL,
        renamed(state, modules, source, dropped=[f"{HEAD}.{index}" for index in (0, 1, 4)]),
        modules,
        outputs=len(state[LAST]),
        labels=labels,
        source=source,
        license=f"{LICENSE}; left out: {HEAD}, of training" if there else LICENSE,
        input_size=EVALUATED,
    )


def module_names() -> dict[str, str]:
    """Their name of every module with weights -> ours."""
    down, extractor = "learning_to_downsample", "global_feature_extractor"
    parts = {f"{down}.0": f"{down}.conv.conv", f"{extractor}.3.out": f"{extractor}.ppm.out.conv"}
    parts |= {f"{down}.{n}": f"{down}.dsconv{n}.conv" for n in (1, 2)}
    parts |= {f"{extractor}.3.stages.{n}": f"{extractor}.ppm.conv{n + 1}.conv" for n in range(4)}
    for stage in range(3):
        for block in range(3):
            ours, theirs = f"{extractor}.{stage}.{block}.block", f"{extractor}.bottleneck{stage + 1}.{block}.block"
            parts |= {f"{ours}.{n}": f"{theirs}.{n}.conv" for n in (0, 1)}
            parts |= {f"{ours}.{n}": f"{theirs}.{n}" for n in (2, 3)}
    parts |= {f"classifier.{n}": f"classifier.dsconv{n + 1}.conv" for n in (0, 1)}
    parts |= {"classifier.3": "classifier.conv.1", "feature_fusion.dwconv": "feature_fusion.dwconv.conv"}
    with outlines():
        net = models.create_model(MODEL)
    names = {}
    for name in dict.fromkeys(key.rpartition(".")[0] for key in net.state_dict()):
        part = next((part for part in parts if name == part or name.startswith(f"{part}.")), None)
        names[name if part is None else parts[part] + name.removeprefix(part)] = name
    return names
