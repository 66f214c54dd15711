"""The cost of models and the time they take, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from rich.console import Group, RenderableType
from rich.table import Table
from torch import nn

import kerbseg.models as models
from kerbseg.apps.timing import RuntimeOptions, Timing, is_file, time_models
from kerbseg.bundle import load, locate, versions
from kerbseg.core.errors import UserError, did_you_mean
from kerbseg.profiling.conventions import CONVENTIONS, Counted
from kerbseg.profiling.cost import Cost, cost
from kerbseg.profiling.latency import LayerTime
from kerbseg.runtime import open_runtime

SLOWEST = 10


@dataclass(frozen=True)
class Profile:
    """What a model costs, how it was counted, and how long it takes."""

    name: str
    cost: Cost
    size_bytes: int  # of its file; of its weights as float32 for a registered name
    convention: str
    counted: Counted  # under that convention
    timing: Timing | None  # not measured without it

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg profile --json` writes it; what was not measured is null."""
        found: dict[str, Any] = {
            "name": self.name,
            "parameters": self.cost.parameters,
            "macs": self.cost.macs,
            "gflops": self.cost.flops / 1e9,
            "size_bytes": self.size_bytes,
            "latency_ms": None if self.timing is None else self.timing.call.to_dict(),
            "network_latency_ms": None if self.timing is None else self.timing.forward_only.to_dict(),
            "slowest_layers": [vars(row) for row in self.slowest()],
            "layers": [
                {"name": row.name, "kind": row.kind, "parameters": row.parameters, "macs": row.macs}
                for row in self.cost.layers
            ],
            "protocol": {"size": list(self.cost.size), "precision": "float32", "versions": versions()},
        }
        if self.timing is not None:
            facts = self.timing.facts
            found["protocol"] |= vars(facts) | {
                "size": list(facts.size),
                "batch": 1,
                "latency": "uint8 picture to class ids of its size; after a warm-up",
                "network_latency": "without what comes before and after the network",
            }
        if self.convention != "true":
            found[self.convention] = {"parameters": self.counted.parameters, "operations": self.counted.operations}
        return found

    def slowest(self) -> list[LayerTime]:
        """The ten operations that take longest, if they were asked for."""
        layers = () if self.timing is None else self.timing.layers
        return sorted(layers, key=lambda row: -row.ms)[:SLOWEST]


@dataclass(frozen=True)
class Subject:
    """A model as it is counted: its network, the size it works at, and its bytes."""

    net: nn.Module
    size: tuple[int, int]  # of its pictures
    worked: tuple[int, int]  # of the network's input, which an exported file pads to
    size_bytes: int | None


def profile_models(
    names: Sequence[str],
    size: tuple[int, int] | None = None,
    convention: str = "true",
    setup: RuntimeOptions | None = None,
    runs: int = 0,
    layers: bool = False,
) -> list[Profile]:
    """The cost of registered names, bundles and exported models, and their latency where `runs` is not 0.

    At `size`, or the paper's, or the file's own; several are timed by turns. Raises UserError for an unknown model or
    convention, InputError for a size that the network cannot take.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"unknown convention {convention!r}; {did_you_mean(convention, CONVENTIONS)}")
    if runs < 0:
        raise UserError(f"runs is {runs}; give at least 1, or 0 to count only")
    subjects = [subject(name, size) for name in names]
    timings: Sequence[Timing | None] = [None] * len(names)
    if runs:
        pictures = [picture(one.size) for one in subjects]
        setups = [_fitting(setup or RuntimeOptions(), name) for name in names]
        timings = time_models(names, setups, pictures, runs, layers)
    return [_profile(name, one, convention, timing) for name, one, timing in zip(names, subjects, timings, strict=True)]


def subject(name: str, size: tuple[int, int] | None) -> Subject:
    """The network of a registered name or of a file. Raises UserError for a size that a file does not take."""
    if not is_file(name):
        size = size or models.card(name).input
        return Subject(models.create_model(name), size, size, None)
    path = locate(name)
    if path.suffix == ".safetensors":
        bundle = load(path)
        size = size or bundle.card.input_size
        return Subject(bundle.model, size, size, path.stat().st_size)
    card = open_runtime(path).card
    if size not in (None, card.input_size):
        own, asked = ("x".join(map(str, each)) for each in (card.input_size, size or ()))
        raise UserError(f"{path} takes pictures of {own} (HxW) only, not of {asked}; export it for that size")
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    net = models.create_model(card.model, card.outputs, **card.options)
    worked = models.padded_size(card.input_size, models.card(card.model).stride)
    return Subject(net, card.input_size, worked, sum(file.stat().st_size for file in files))


def picture(size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A drawn street at a size: what networks see decides how fast some of their engines are."""
    from kerbseg.data.scenes import Scenes

    return Scenes("test", size=size)[0].image


def _fitting(setup: RuntimeOptions, name: str) -> RuntimeOptions:
    """The setup for a model of several: a runtime and precision named for the other kind of file are left out."""
    exported = {".onnx": "onnx", ".xml": "openvino"}.get(Path(name).suffix, "torch")
    if setup.runtime is None or setup.runtime.startswith(exported):
        return setup
    return RuntimeOptions(device=setup.device, threads=setup.threads)


def _profile(name: str, one: Subject, convention: str, timing: Timing | None) -> Profile:
    found = cost(one.net, one.worked)
    size_bytes = found.size_bytes if one.size_bytes is None else one.size_bytes
    return Profile(name, found, size_bytes, convention, CONVENTIONS[convention](one.net, one.worked), timing)


def render(profile: Profile, layers: bool = False) -> RenderableType:
    """Totals, and the layers if asked for."""
    found = profile.cost
    totals = Table("figure", "value", title=f"{profile.name} at {found.size[0]}x{found.size[1]} (HxW)")
    totals.add_row("parameters", f"{found.parameters:,}")
    totals.add_row("MACs", f"{found.macs / 1e9:.4f} G")
    totals.add_row("operations (2 x MACs)", f"{found.flops / 1e9:.4f} GFLOP")
    totals.add_row("size", f"{profile.size_bytes / 1e6:.3f} MB")
    if (timing := profile.timing) is None:
        totals.add_row("latency", "not measured")
    else:
        facts, call, alone = timing.facts, timing.call, timing.forward_only
        totals.add_row("latency, picture to ids", f"{call.median_ms:.2f} ms median, {call.p95_ms:.2f} ms p95")
        totals.add_row("latency, network alone", f"{alone.median_ms:.2f} ms median, {alone.p95_ms:.2f} ms p95")
        totals.add_row("pictures per second", f"{1e3 / call.median_ms:.1f}")
        where = f"{facts.runtime} {facts.precision} on {facts.device}, {facts.threads} thread(s), {call.runs} runs"
        totals.add_row("measured with", f"{where}, batch 1, weights {facts.weights}")
    if profile.convention != "true":
        totals.add_row(f"parameters, {profile.convention}", f"{profile.counted.parameters:,}")
        totals.add_row(f"operations, {profile.convention}", f"{profile.counted.operations / 1e9:.4f} G")
    if not layers:
        return totals
    rows = Table("layer", "kind", "parameters", "MMACs", "output")
    for row in found.layers:
        shape = "x".join(map(str, row.output[1:]))
        rows.add_row(row.name, row.kind, f"{row.parameters:,}", f"{row.macs / 1e6:.2f}", shape)
    slowest = Table("operation", "kind", "ms", title="the ten that take longest")
    for slow in profile.slowest():
        slowest.add_row(slow.name, slow.kind, f"{slow.ms:.3f}")
    return Group(rows, slowest, totals) if profile.slowest() else Group(rows, totals)
