"""Latencies of models, each in a process of its own: engines loaded beside each other slow each other down."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import UserError
from kerbseg.core.labels import label_set
from kerbseg.profile.latency import RUNS, Batch, Latency, LayerTime, interleaved, timed
from kerbseg.runtime import Precision, Runtime, Timeable, open_runtime

LAYER_RUNS = 20


@dataclass(frozen=True)
class Setup:
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
    alone: Latency  # the network without what comes before and after it
    layers: Sequence[LayerTime]  # empty where not asked for


def time_models(
    models: Sequence[str],
    setups: Sequence[Setup],
    pictures: Sequence[UInt8[np.ndarray, "h w 3"]],
    runs: int = RUNS,
    layers: bool = False,
) -> list[Timing]:
    """Times each model on its picture, all by turns. Raises UserError for what cannot be run."""
    with ExitStack() as stack:
        jobs = zip(models, setups, pictures, strict=True)
        workers = [stack.enter_context(worker(*job)) for job in jobs]
        calls = interleaved([one.call for one in workers], runs)
        alone = interleaved([one.alone for one in workers], runs)
        times = [one.layers() if layers else [] for one in workers]
        return [
            Timing(one.facts, call, network, found)
            for one, call, network, found in zip(workers, calls, alone, times, strict=True)
        ]


@dataclass(frozen=True)
class Worker:
    """A model in another process, which works only while it is asked to."""

    facts: Facts
    call: Batch
    alone: Batch
    pipe: Connection

    def layers(self) -> list[LayerTime]:
        """Times of its operations."""
        return _ask(self.pipe, "layers", LAYER_RUNS)


@contextmanager
def worker(model: str, setup: Setup, picture: UInt8[np.ndarray, "h w 3"]) -> Iterator[Worker]:
    """A process that has opened a model, until the block ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, model, setup, picture), daemon=True)
    process.start()
    theirs.close()
    try:
        facts: Facts = _answer(ours)
        yield Worker(facts, lambda count: _ask(ours, "call", count), lambda count: _ask(ours, "alone", count), ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _ask(pipe: Connection, what: str, count: int) -> Any:
    pipe.send((what, count))
    return _answer(pipe)


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError as error:
        raise UserError("the process that was to be timed has ended; is there memory for the model?") from error
    if isinstance(answer, UserError):
        raise answer
    return answer


def _serve(pipe: Connection, model: str, setup: Setup, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """The other process: opens the model, says what it is, and times it as often as asked."""
    try:
        runtime, weights = opened(model, setup)
        pictures = picture[None]
        runtime(pictures)
    except UserError as error:
        pipe.send(UserError(str(error)))
        return
    assert isinstance(runtime, Timeable)
    size = (picture.shape[0], picture.shape[1])
    device = str(getattr(runtime, "device", "cpu"))
    pipe.send(Facts(runtime.name, runtime.precision, device, runtime.threads, size, weights))
    batches = {"call": timed(lambda: runtime(pictures)), "alone": timed(runtime.alone(pictures))}
    try:
        while True:
            what, count = pipe.recv()
            pipe.send(runtime.layer_times(pictures, count) if what == "layers" else batches[what](count))
    except EOFError:  # the other side has what it wanted
        return


def opened(model: str, setup: Setup) -> tuple[Runtime, str]:
    """A model's runtime, and where its weights are from; a registered name has random ones."""
    from kerbseg.regroup import fresh

    source, weights = (model, "of the file") if is_file(model) else (fresh(model, label_set("cityscapes")), "random")
    return open_runtime(source, setup.runtime, setup.device, setup.threads, setup.precision), weights


def is_file(model: str) -> bool:
    """Whether a model is named by a path rather than by its registered name."""
    return "/" in model or model.endswith((".safetensors", ".onnx", ".xml"))
