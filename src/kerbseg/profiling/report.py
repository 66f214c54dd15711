"""The cost of models and the time they take, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from torch import nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, load, versions
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.text import counted
from kerbseg.exported_card import ForeignCard
from kerbseg.profiling.conventions import CONVENTIONS, Counted
from kerbseg.profiling.cost import Cost, LayerCost, cost
from kerbseg.profiling.latency import Budget, Latency, Skipped
from kerbseg.profiling.workers import Ready, Say, Timing, drawn_street, source_of, time_models
from kerbseg.runtime import ENGINES, Exported, LayerTime, Runtime, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import BUNDLE_SUFFIX, size_bytes, suffix_of

SLOWEST = 10


@dataclass(frozen=True)
class Profile:
    """What a model costs, how it was counted, and how long it takes."""

    name: str
    cost: Cost
    size_bytes: int  # of its file; of its weights as float32 for a registered name
    convention: str
    counted: Counted  # under that convention
    timing: Timing | Skipped

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg profile --json` writes it; what was not measured is null."""
        profile: dict[str, Any] = {
            "name": self.name,
            "parameters": self.cost.parameters,
            "macs": self.cost.macs or None,
            "gflops": self.cost.flops / 1e9 or None,
            "size_bytes": self.size_bytes,
            "latency_ms": None,
            "network_latency_ms": None,
            "slowest_layers": [vars(row) for row in self.slowest()],
            "layers": [
                {"name": row.name, "kind": row.kind, "parameters": row.parameters, "macs": row.macs}
                for row in self.cost.layers
            ],
            "protocol": {"size": list(self.cost.size), "precision": "float32", "versions": versions()},
        }
        if isinstance(self.timing, Timing):
            network = self.timing.forward_only
            profile["latency_ms"] = self.timing.call.to_dict()
            profile["network_latency_ms"] = network.to_dict() if isinstance(network, Latency) else None
            profile["protocol"] = self.timing.facts.to_dict() | {
                "batch": 1,
                "latency": "uint8 picture to class ids of its size; after a warm-up",
                "network_latency": "without what comes before and after the network",
            }
        if self.convention != "true":
            profile[self.convention] = {"parameters": self.counted.parameters, "operations": self.counted.operations}
        return profile

    def slowest(self) -> list[LayerTime]:
        """The ten operations that take longest, if they were asked for."""
        layers = self.timing.layers if isinstance(self.timing, Timing) else ()
        return sorted(layers, key=lambda row: -row.ms)[:SLOWEST]


@dataclass(frozen=True)
class Subject:
    """A model as it is counted: its network, the size it works at, and its bytes."""

    net: nn.Module | ForeignCard  # the latter where all that is known of a network is what its file says
    size: tuple[int, int]  # of its pictures
    worked: tuple[int, int]  # of the network's input, which an exported file pads to
    size_bytes: int | None


@dataclass(frozen=True)
class Untouched:
    """A file that no runtime opens, and how it is opened to be timed."""

    subject: Subject
    prepare: Callable[..., Ready]  # as `workers.of_model`


def profile_models(
    names: Sequence[str],
    size: tuple[int, int] | None = None,
    convention: str = "true",
    options: RuntimeOptions | None = None,
    budget: Budget | None = None,
    layers: bool = False,
    say: Say = lambda line: None,
    untouched: Mapping[str, Untouched] | None = None,
) -> list[Profile]:
    """The cost of registered names, bundles and exported models, and their latency within a budget.

    At `size`, or the paper's, or the file's own; several are timed by turns. `say` is shown what is being done;
    `untouched` are models among the names that are no files of ours. Raises KerbsegError for an unknown model or
    convention, InputError for a size that the network cannot take.
    """
    if convention not in CONVENTIONS:
        raise KerbsegError(f"unknown convention {convention!r}; {did_you_mean(convention, CONVENTIONS)}")
    budget = budget or Budget()
    others = untouched or {}
    subjects = [others[name].subject if name in others else subject(name, size) for name in names]
    timings: Sequence[Timing | Skipped] = [Skipped("no runs were asked for")] * len(names)
    if budget.runs != 0:
        pictures = [drawn_street(one.size) for one in subjects]
        prepare = {name: other.prepare for name, other in others.items()}
        each = options_for(names, options or RuntimeOptions(), [name for name in names if name not in others])
        timings = time_models(names, each, pictures, budget, layers, say, prepare)
    return [_profile(name, one, convention, timing) for name, one, timing in zip(names, subjects, timings, strict=True)]


def subject(name: str, size: tuple[int, int] | None) -> Subject:
    """The network of a registered name or of a file. Raises KerbsegError for a size that a file does not take."""
    source = source_of(name)
    if isinstance(source, Bundle):  # of random weights; its classes are the paper's
        size = size or models.card(name).input
        return Subject(models.create_model(name), size, size, None)
    if suffix_of(source) == BUNDLE_SUFFIX:
        bundle = load(source)
        size = size or bundle.card.input_size
        return Subject(bundle.model, size, size, size_bytes(source))
    runtime = open_runtime(source)
    card = runtime.card
    if size not in (None, card.input_size):
        own, asked = ("x".join(map(str, each)) for each in (card.input_size, size or ()))
        raise KerbsegError(f"{source} takes pictures of {own} (HxW) only, not of {asked}; export it for that size")
    if isinstance(runtime, Exported) and runtime.foreign is not None:
        return foreign_subject(runtime, runtime.foreign.parameters, runtime.foreign.macs, source, size_bytes(source))
    net = models.create_model(card.model, card.outputs, **card.options)
    worked = models.padded_size(card.input_size, models.card(card.model).stride)
    return Subject(net, card.input_size, worked, size_bytes(source))


def foreign_subject(runtime: Runtime, parameters: int, macs: int | None, file: Path, stored: int) -> Subject:
    """A file whose network is not registered; `stored` are its bytes, with what lies beside it."""
    size = runtime.card.input_size
    return Subject(ForeignCard(file.name, parameters, macs), size, size, stored)


def options_for(
    names: Sequence[str], options: RuntimeOptions, opened: Sequence[str] | None = None
) -> list[RuntimeOptions]:
    """Options of each model: an engine, and a precision with it, is that of the models among them that it runs.

    `opened` are those that runtimes open, all without it.

    Raises KerbsegError for an engine that runs none of them.
    """
    if (engine := ENGINES.get(options.engine or "")) is None:
        return [options] * len(names)  # an unknown name is refused where the model is opened
    ours = names if opened is None else opened
    runs = [name in ours and _suffix(name) == engine.suffix for name in names]
    if not any(runs):
        raise KerbsegError(f"{engine.name} runs {engine.suffix} files, not {' or '.join(names)}; leave --runtime out")
    return [options if fits else replace(options, engine=None, precision=None) for fits in runs]


def _suffix(name: str) -> str:
    source = source_of(name)
    return BUNDLE_SUFFIX if isinstance(source, Bundle) else suffix_of(source)


def _profile(name: str, one: Subject, convention: str, timing: Timing | Skipped) -> Profile:
    if isinstance(one.net, ForeignCard):
        return _foreign_profile(name, one.net, one, convention, timing)
    of_net = cost(one.net, one.worked)
    bytes_ = of_net.size_bytes if one.size_bytes is None else one.size_bytes
    return Profile(name, of_net, bytes_, convention, CONVENTIONS[convention](one.net, one.worked), timing)


def _foreign_profile(name: str, net: ForeignCard, one: Subject, convention: str, timing: Timing | Skipped) -> Profile:
    """Of what a graph says of itself; MACs that it does not tell are 0, which is shown as not measured."""
    if convention != "true":
        raise KerbsegError(f"convention {convention!r} counts registered networks, and {name} is none; leave it out")
    row = LayerCost("whole network", "graph", net.parameters, net.macs or 0, ())
    of_file = Cost(one.worked, (row,), net.parameters, one.size_bytes or 0)
    return Profile(name, of_file, of_file.size_bytes, convention, Counted(net.parameters, net.macs or 0), timing)


def render(profiles: Sequence[Profile], layers: bool = False) -> RenderableType:
    """One table of all, with the ratio where there are two; the layers of each above it if asked for."""
    shown = [table for profile in profiles for table in _layer_tables(profile)] if layers else []
    return Group(*shown, _totals(profiles))


def _totals(profiles: Sequence[Profile]) -> Table:
    pair = len(profiles) == 2
    heads = [f"{profile.name}\nat {'x'.join(map(str, profile.cost.size))} (HxW)" for profile in profiles]
    table = Table(
        "figure",
        *(Column(head, overflow="fold") for head in heads),
        caption=_machines(profiles),
        caption_justify="left",
    )
    if pair:
        table.add_column("ratio\n(first / second)")
    for name, form, *values in _figures(profiles):
        cells = ["not measured" if value is None else form.format(value) for value in values]
        ratio = f"{values[0] / values[1]:.3g}" if pair and values[0] is not None and values[1] else ""
        table.add_row(name, *cells, *([ratio] if pair else []))
    table.add_section()
    for name, *cells in _protocol(profiles):
        table.add_row(name, *cells)
    return table


def _figures(profiles: Sequence[Profile]) -> Iterator[tuple[Any, ...]]:
    """Of each line of the table: name, format, and the number of each profile; None where it was not measured."""
    calls = [profile.timing.call if isinstance(profile.timing, Timing) else profile.timing for profile in profiles]
    networks = [
        profile.timing.forward_only if isinstance(profile.timing, Timing) else profile.timing for profile in profiles
    ]
    yield "parameters", "{:,}", *(profile.cost.parameters for profile in profiles)
    yield "MACs", "{:.4f} G", *(profile.cost.macs / 1e9 or None for profile in profiles)
    yield "operations (2 x MACs)", "{:.4f} GFLOP", *(profile.cost.flops / 1e9 or None for profile in profiles)
    if (convention := profiles[0].convention) != "true":
        yield f"parameters, {convention}", "{:,}", *(profile.counted.parameters for profile in profiles)
        yield f"operations, {convention}", "{:.4f} G", *(profile.counted.operations / 1e9 for profile in profiles)
    yield "size", "{:.3f} MB", *(profile.size_bytes / 1e6 for profile in profiles)
    for name, latencies in (("picture to ids", calls), ("network only", networks)):
        for part in ("median", "p95"):
            milliseconds = (getattr(one, f"{part}_ms", None) for one in latencies)
            yield f"latency, {name}, {part}", "{:.2f} ms", *milliseconds
    yield "pictures per second", "{:.1f}", *(1e3 / one.median_ms if isinstance(one, Latency) else None for one in calls)


def _protocol(profiles: Sequence[Profile]) -> Iterator[tuple[str, ...]]:
    """How each was timed, in words; nothing where none was."""
    timings = [profile.timing for profile in profiles if isinstance(profile.timing, Timing)]
    if not timings:
        return
    facts = [timing.facts for timing in timings]
    yield "runtime", *(f"{one.runtime}, {one.precision}" for one in facts)
    yield "device", *(f"{one.device}, {counted(one.threads, 'thread')}" for one in facts)
    yield "runs", *(f"{counted(timing.call.runs, 'run')}, batch 1" for timing in timings)
    yield "weights", *(one.weights for one in facts)


def _machines(profiles: Sequence[Profile]) -> str | None:
    """Where it was measured; one line where it is the same for all."""
    timings = [profile.timing for profile in profiles if isinstance(profile.timing, Timing)]
    return "\n".join(dict.fromkeys(str(timing.facts.machine) for timing in timings)) or None


def _layer_tables(profile: Profile) -> Iterator[Table]:
    rows = Table("layer", "kind", "parameters", "MMACs", "output", title=profile.name)
    for row in profile.cost.layers:
        shape = "x".join(map(str, row.output[1:]))
        rows.add_row(row.name, row.kind, f"{row.parameters:,}", f"{row.macs / 1e6:.2f}", shape)
    yield rows
    if not profile.slowest():
        return
    slowest = Table("operation", "kind", "ms", title=f"{profile.name}: the ten that take longest")
    for slow in profile.slowest():
        slowest.add_row(slow.name, slow.kind, f"{slow.ms:.3f}")
    yield slowest
