"""Latencies of models, each in a process of its own: engines loaded beside each other slow each other down."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.bundle import Bundle, find_model
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.data.scenes import Scenes
from kerbseg.profiling.latency import Batch, Budget, Latency, Skipped, interleaved, timed
from kerbseg.profiling.machine import Machine, this_machine
from kerbseg.runtime import ENGINES, Engine, LayerTime, Profilable, Runtime, RuntimeOptions, open_runtime

LAYER_RUNS = 20
GONE = "the process that was to be timed has ended; is there memory for the model?"

Say = Callable[[str], None]  # shows a line of progress


class TimeOver(KerbsegError):
    """Another process was not done in time."""


@dataclass(frozen=True)
class Facts:
    """The protocol of a model's latencies: what its runtime says of itself, and the machine."""

    runtime: str
    precision: str
    device: str
    threads: int
    size: tuple[int, int]
    weights: str  # of the file, or random
    machine: Machine

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        own = {key: value for key, value in vars(self).items() if key != "machine"}
        return own | {"size": list(self.size)} | self.machine.to_dict()


@dataclass(frozen=True)
class Timing:
    """Latencies of one picture."""

    facts: Facts
    call: Latency  # uint8 picture to ids of its size
    forward_only: Latency | Skipped  # the network without what comes before and after it
    layers: Sequence[LayerTime]  # empty where not asked for


def time_models(
    models: Sequence[str],
    options: Sequence[RuntimeOptions],
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    budget: Budget | None = None,
    layers: bool = False,
    say: Say = lambda line: None,
    prepare: Mapping[str, Callable[..., Ready]] | None = None,
) -> list[Timing]:
    """Times each model on its picture, all by turns, within one budget. Raises KerbsegError for what cannot be run.

    `prepare` opens what no runtime does, by the model's name, with the arguments of `of_model`.
    """
    budget = budget or Budget()
    with ExitStack() as stack:
        workers = []
        for model, how, picture in zip(models, options, pictures, strict=True):
            say(f"loading {model}")
            opener = (prepare or {}).get(model, of_model)
            workers.append(stack.enter_context(worker(opener, model, how, picture, dict(ENGINES))))
        say(f"timing {' and '.join(models)}: {budget}")
        batches = {
            (what, number): one.batch(what)
            for what in ("call", "forward")
            for number, one in enumerate(workers)
            if what in one.answers
        }
        latencies = dict(zip(batches, interleaved(list(batches.values()), budget), strict=True))
        return [
            Timing(
                one.facts,
                latencies["call", number],
                latencies.get(("forward", number), Skipped(f"{one.facts.runtime} does not show its network by itself")),
                _layer_times(one, budget, latencies["call", number]) if layers else [],
            )
            for number, one in enumerate(workers)
        ]


def time_each(
    models: Sequence[str],
    options: Sequence[RuntimeOptions],
    picture: UInt8[np.ndarray, "h w 3"],
    budget: Budget | None = None,
) -> list[Timing | Skipped]:
    """As `time_models` on one picture, by turns; what fails is left out with its reason, and the others are timed."""
    results: dict[int, Timing | Skipped] = {}
    with ExitStack() as stack:
        workers: dict[int, Worker] = {}
        for number, (model, how) in enumerate(zip(models, options, strict=True)):
            try:
                workers[number] = stack.enter_context(worker(of_model, model, how, picture, dict(ENGINES)))
            except KerbsegError as error:
                results[number] = Skipped(str(error))
        failures: dict[int, Skipped] = {}
        batches = [
            _surviving(one.batch("call"), partial(failures.setdefault, number)) for number, one in workers.items()
        ]
        latencies = interleaved(batches, budget) if batches else []
        for (number, one), latency in zip(workers.items(), latencies, strict=True):
            unseen = Skipped("it was not asked for")
            results[number] = failures.get(number) or Timing(one.facts, latency, unseen, [])
    return [results[number] for number in range(len(models))]


def _surviving(batch: Batch, failed: Callable[[Skipped], object]) -> Batch:
    """The same, but a process that ends is told once and takes no time from then on."""

    def survive(count: int) -> Sequence[float]:
        try:
            return batch(count)
        except KerbsegError as error:
            failed(Skipped(str(error)))
            return [0.0] * count

    return survive


def _layer_times(one: Worker, budget: Budget, call: Latency) -> list[LayerTime]:
    """Of so many runs as half of the budget holds."""
    if "layers" not in one.answers:
        return []
    times: list[LayerTime] = one.ask("layers", int(max(1, min(LAYER_RUNS, budget.limit_s / 2 * 1e3 / call.median_ms))))
    return times


@dataclass(frozen=True)
class Ready:
    """What a process can be asked for: each takes a number of runs."""

    facts: Any
    answers: Mapping[str, Callable[[int], Any]]


def of_model(
    model: str,
    options: RuntimeOptions,
    picture: UInt8[np.ndarray, "h w 3"],
    engines: Mapping[str, Engine] | None = None,
) -> Ready:
    """A model and one picture; it has seen it once. `engines` are those of the process that asks."""
    ENGINES.update(engines or {})
    source = source_of(model)
    return ready(open_runtime(source, options), picture, "of the file" if isinstance(source, Path) else "random")


def ready(runtime: Runtime, picture: UInt8[np.ndarray, "h w 3"], weights: str) -> Ready:
    """A runtime and one picture; it has seen it once."""
    pictures = picture[None]
    runtime(pictures)
    facts = Facts(
        runtime=runtime.name,
        precision=runtime.precision,
        device=runtime.device,
        threads=runtime.threads,
        size=(picture.shape[0], picture.shape[1]),
        weights=weights,
        machine=this_machine(runtime.device),
    )
    if not isinstance(runtime, Profilable):
        return Ready(facts, {"call": timed(lambda: runtime(pictures))})
    return Ready(
        facts,
        {
            "call": timed(lambda: runtime(pictures), runtime.synchronize),
            "forward": timed(runtime.forward_only(pictures), runtime.synchronize),
            "layers": lambda runs: runtime.layer_times(pictures, runs),
        },
    )


@dataclass(frozen=True)
class Worker:
    """Another process, which works only while it is asked to."""

    facts: Any
    answers: frozenset[str]  # what it can be asked for
    pipe: Connection
    end: Callable[[], object]  # at once, whatever it is doing

    def ask(self, what: str, runs: Any, limit_s: float | None = None) -> Any:
        """The answer to so many runs. Raises TimeOver where it is not there within the limit; the process is ended."""
        try:
            self.pipe.send((what, runs))
        except OSError as error:
            raise KerbsegError(GONE) from error
        return _answer(self.pipe, self.end, limit_s)

    def batch(self, what: str) -> Batch:
        """What times its runs."""
        return partial(self.ask, what)


@contextmanager
def worker(prepare: Callable[..., Ready], *arguments: Any, limit_s: float | None = None) -> Iterator[Worker]:
    """A process that has prepared itself, until the block ends.

    Raises the KerbsegError of its preparation, and TimeOver where that takes longer than the limit.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        facts, answers = _answer(ours, process.kill, limit_s)
        yield Worker(facts, answers, ours, process.kill)
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _answer(pipe: Connection, end: Callable[[], object], limit_s: float | None) -> Any:
    try:
        if limit_s is not None and not pipe.poll(max(0.0, limit_s)):
            end()
            raise TimeOver("it took longer than its share of the time")
        answer = pipe.recv()
    except (EOFError, ConnectionResetError) as error:
        raise KerbsegError(GONE) from error
    if isinstance(answer, KerbsegError):
        raise answer
    return answer


def _serve(pipe: Connection, prepare: Callable[..., Ready], arguments: tuple[Any, ...]) -> None:
    """The other process: prepares itself, says what it is, and answers as often as asked."""
    try:
        ready = prepare(*arguments)
    except KerbsegError as error:
        pipe.send(KerbsegError(str(error)))
        return
    pipe.send((ready.facts, frozenset(ready.answers)))
    try:
        while True:
            what, runs = pipe.recv()
            pipe.send(ready.answers[what](runs))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the other side has what it wanted, or was ended
        return


def source_of(model: str) -> Path | Bundle:
    """The file of a model, or a registered network with random weights for Cityscapes' classes."""
    return find_model(model, label_set("cityscapes"))


def drawn_street(size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture to time networks on: what they see decides how fast some engines are."""
    return Scenes("test", size=size)[0].image
