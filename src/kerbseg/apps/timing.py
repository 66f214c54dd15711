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

from kerbseg.bundle import shipped
from kerbseg.core.errors import UserError
from kerbseg.core.labels import label_set
from kerbseg.profiling.latency import RUNS, Batch, Latency, LayerTime, interleaved, timed
from kerbseg.runtime import Precision, Profilable, Runtime, open_runtime

LAYER_RUNS = 20


@dataclass(frozen=True)
class RuntimeOptions:
    """How a model is run; None leaves the choice to the runtime."""

    runtime: str | None = None
    device: str = "cpu"
    threads: int | None = None
    precision: Precision | None = None


@dataclass(frozen=True)
class Facts:
    """What a runtime says of itself."""

    runtime: str
    precision: str
    device: str
    threads: int
    size: tuple[int, int]
    weights: str  # of the file, or random


@dataclass(frozen=True)
class Timing:
    """Latencies of one picture."""

    facts: Facts
    call: Latency  # uint8 picture to ids of its size
    forward_only: Latency  # the network without what comes before and after it
    layers: Sequence[LayerTime]  # empty where not asked for


def time_models(
    models: Sequence[str],
    setups: Sequence[RuntimeOptions],
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    runs: int = RUNS,
    layers: bool = False,
) -> list[Timing]:
    """Times each model on its picture, all by turns. Raises UserError for what cannot be run."""
    with ExitStack() as stack:
        jobs = zip(models, setups, pictures, strict=True)
        workers = [stack.enter_context(worker(of_model, *job)) for job in jobs]
        calls = interleaved([one.batch("call") for one in workers], runs)
        forward_only = interleaved([one.batch("alone") for one in workers], runs)
        times = [one.ask("layers", LAYER_RUNS) if layers else [] for one in workers]
        return [
            Timing(one.facts, call, network, found)
            for one, call, network, found in zip(workers, calls, forward_only, times, strict=True)
        ]


@dataclass(frozen=True)
class Ready:
    """What a process can be asked for: each takes a number of runs."""

    facts: Any
    answers: Mapping[str, Callable[[int], Any]]


def of_model(model: str, setup: RuntimeOptions, picture: UInt8[np.ndarray, "h w 3"]) -> Ready:
    """A model and one picture; it has seen it once."""
    runtime, weights = opened(model, setup)
    assert isinstance(runtime, Profilable)
    pictures = picture[None]
    runtime(pictures)
    size = (picture.shape[0], picture.shape[1])
    device = str(getattr(runtime, "device", "cpu"))
    return Ready(
        Facts(runtime.name, runtime.precision, device, runtime.threads, size, weights),
        {
            "call": timed(lambda: runtime(pictures)),
            "alone": timed(runtime.forward_only(pictures)),
            "layers": lambda count: runtime.layer_times(pictures, count),
        },
    )


@dataclass(frozen=True)
class Worker:
    """Another process, which works only while it is asked to."""

    facts: Any
    pipe: Connection

    def ask(self, what: str, count: int) -> Any:
        """The answer to `count` runs."""
        self.pipe.send((what, count))
        return _answer(self.pipe)

    def batch(self, what: str) -> Batch:
        """What times its runs."""
        return partial(self.ask, what)


@contextmanager
def worker(prepare: Callable[..., Ready], *arguments: Any) -> Iterator[Worker]:
    """A process that has prepared itself, until the block ends. Raises the UserError of its preparation."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Worker(_answer(ours), ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError as error:
        raise UserError("the process that was to be timed has ended; is there memory for the model?") from error
    if isinstance(answer, UserError):
        raise answer
    return answer


def _serve(pipe: Connection, prepare: Callable[..., Ready], arguments: tuple[Any, ...]) -> None:
    """The other process: prepares itself, says what it is, and answers as often as asked."""
    try:
        ready = prepare(*arguments)
    except UserError as error:
        pipe.send(UserError(str(error)))
        return
    pipe.send(ready.facts)
    try:
        while True:
            what, count = pipe.recv()
            pipe.send(ready.answers[what](count))
    except EOFError:  # the other side has what it wanted
        return


def opened(model: str, setup: RuntimeOptions) -> tuple[Runtime, str]:
    """A model's runtime, and where its weights are from; a registered name has random ones."""
    from kerbseg.regroup import random_bundle

    source, weights = (
        (model, "of the file") if is_file(model) else (random_bundle(model, label_set("cityscapes")), "random")
    )
    return open_runtime(source, setup.runtime, setup.device, setup.threads, setup.precision), weights


def is_file(model: str) -> bool:
    """Whether a model has weights of its own: a path, or a name of shipped ones; else it is a registered name."""
    return "/" in model or bool(Path(model).suffix) or model in shipped()
