"""Networks timed on this machine until a time is over: they are made, and timed, in processes that can be ended."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import kerbseg.models as models
from kerbseg.apps.choose import Choice, Known, Wish, choose, known_accuracies
from kerbseg.apps.info import figures
from kerbseg.apps.ways import Way, find_ways, quick_ways
from kerbseg.bundle import Bundle, load, locate, random_bundle, read_card
from kerbseg.core.errors import BundleError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import LabelSet
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.data.scenes import Scenes
from kerbseg.export import pictures_of
from kerbseg.profiling.latency import Budget, Latency, interleaved, timed
from kerbseg.profiling.machine import Machine, busy, this_machine
from kerbseg.profiling.workers import Ready, Say, Worker, drawn_street, of_model, worker
from kerbseg.runtime import ENGINES, Engine, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import BUNDLE_SUFFIX

CALIBRATION = 2  # drawn streets: int8 takes the same time whatever it was calibrated on
TIMING_S = 2.0  # of one network on one engine
SHARE, LEAST_S = 1 / 3, 20.0  # of the time that is left may go into one file, and at least so many seconds
LOOK_S = 0.5  # of a first look, whose quickest run counts
SEEN, PASSES = (64, 128), 4  # pictures that random networks see, and how often


class MachineBench:
    """This machine, until its seconds are over; a context manager, since it holds processes.

    A network is a registered name (random weights) or a bundle. Files are written to `folder`.
    """

    def __init__(self, size: tuple[int, int], threads: int | None, classes: int, folder: Path, seconds: float) -> None:
        self._size, self._classes, self._folder = size, classes, folder
        self._options, self._end = RuntimeOptions(threads=threads), time.monotonic() + seconds
        self._stack = ExitStack()
        self._maker: Worker | None = None
        self._versions: dict[str, str] = {}
        self._machine: Machine | None = None

    def __enter__(self) -> MachineBench:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stop()

    def left_s(self) -> float:
        """Seconds until all has to end."""
        return self._end - time.monotonic()

    def torch_ms(self, network: str) -> float:
        """The quickest of a few runs in torch on one thread, all networks in one process: rough."""
        ms: float = self._asked("look", network)
        return ms

    def latency(self, network: str, way: Way) -> Latency:
        """In a process of its own, of a file that another has written. Raises KerbsegError as `Bench`."""
        limit_s = max(LEAST_S, SHARE * self.left_s())
        file: str = self._asked("write", (network, way), limit_s)
        options = replace(self._options, engine=way.engine.name)
        arguments = (file, options, drawn_street(self._size), dict(ENGINES))
        with worker(of_model, *arguments, limit_s=self.left_s()) as one:
            self._versions |= one.facts.machine.versions
            self._machine = replace(one.facts.machine, versions=dict(self._versions))
            budget = Budget(seconds=max(0.1, min(TIMING_S, self.left_s())))
            return interleaved([lambda count: one.ask("call", count, self.left_s())], budget)[0]

    def machine(self) -> Machine:
        """With the versions of all engines that were timed."""
        return self._machine or this_machine()

    def _asked(self, what: str, job: Any, limit_s: float = math.inf) -> Any:
        """An answer of the process that makes networks; it is ended where it takes too long, and started anew."""
        try:
            if self._maker is None:
                arguments = (self._size, self._classes, str(self._folder), dict(ENGINES))
                self._maker = self._stack.enter_context(worker(makes, *arguments, limit_s=self.left_s()))
            answer = self._maker.ask(what, job, limit_s=min(limit_s, self.left_s()))
        except KerbsegError:  # it has ended, by itself or since it took too long
            self._stop()
            raise
        if isinstance(answer, Refused):
            raise KerbsegError(answer.reason)
        return answer

    def _stop(self) -> None:
        self._maker = None
        self._stack.close()
        self._stack = ExitStack()


@dataclass(frozen=True)
class Refused:
    """Why a process did not do what it was asked for; it goes on."""

    reason: str


def makes(size: tuple[int, int], classes: int, folder: str, engines: Mapping[str, Engine]) -> Ready:
    """What makes networks in a process of its own: it times them roughly in torch, and writes their files."""
    ENGINES.update(engines)
    if "fork" in multiprocessing.get_all_start_methods():
        # locks of libraries' progress bars then leave nothing behind when this process is ended
        multiprocessing.set_start_method("fork", force=True)
    last: dict[str, Bundle] = {}

    def bundle_of(network: str) -> Bundle:
        if network not in last:
            last.clear()
            last[network] = made(network, size, classes)
        return last[network]

    def look(network: str) -> float:
        # on one thread: beside other programs torch's threads wait for each other, and a look would tell of those
        runtime, pictures = open_runtime(bundle_of(network), threads=1), drawn_street(size)[None]
        batch = timed(lambda: runtime(pictures))
        seconds = [*batch(2)]
        while sum(seconds) < LOOK_S:
            seconds += batch(1)
        return min(seconds) * 1e3

    def write(job: tuple[str, Way]) -> str:
        network, way = job
        path = Path(folder) / way.file_name(Path(network).stem)
        way.write(bundle_of(network), path, size, Scenes("train", CALIBRATION, size), CALIBRATION)
        return str(path)

    return Ready(None, {"look": partial(_refusing, look), "write": partial(_refusing, write)})


def _refusing(work: Callable[[Any], Any], job: Any) -> Any:
    try:
        with redirect_stdout(StringIO()):  # quantization has a bar of its own, and reports may go to that stream
            return work(job)
    except (KerbsegError, RuntimeError, OSError) as error:  # engines and torch have errors of their own
        return Refused(str(KerbsegError(str(error) or type(error).__name__)))


def made(network: str, size: tuple[int, int], classes: int) -> Bundle:
    """A bundle that takes pictures of a size; random weights see some pictures first.

    Batch-norms that have seen none can fill a network with numbers so small that processors take far longer.
    """
    fresh = network in models.list_models()
    bundle = random_bundle(network, labels_of(classes)) if fresh else load(network)
    bundle = replace(bundle, card=replace(bundle.card, input_size=size))
    if not fresh:
        return bundle
    for module in bundle.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    shown = torch.from_numpy(np.stack(pictures_of(Scenes("train"), SEEN, 2)))
    bundle.model.train()
    with torch.no_grad():
        for _ in range(PASSES):
            bundle.model(Normalize(bundle.card.preprocessing)(to_unit(shown)))
    bundle.model.eval()
    return bundle


def labels_of(classes: int) -> LabelSet:
    """So many classes without a meaning."""
    return LabelSet("any", tuple(f"class {n}" for n in range(classes)), tuple((n, n, n) for n in range(classes)))


def macs_of(network: str, size: tuple[int, int]) -> float:
    """Multiply-accumulates at a size, by those at the card's: roughly. Raises KerbsegError for no network or bundle."""
    name = network
    if network not in models.list_models():
        if (path := locate(network)).suffix != BUNDLE_SUFFIX:
            raise BundleError(
                f"{network} has an engine of its own; name its bundle, or run: kerbseg benchmark {network}"
            )
        name = read_card(path).model
    facts = models.card(name)
    return facts.macs * math.prod(size) / math.prod(facts.input)


def choose_here(
    wish: Wish,
    networks: Sequence[str] = (),
    model: str | None = None,
    formats: str | None = None,
    say: Say = lambda line: None,
) -> Choice:
    """The choice for this machine, measured now within the wish's minutes.

    Of registered `networks`, the papers' main ones without any, or of one trained `model`. `formats` names ways such as
    'onnx,openvino-int8'. Raises KerbsegError for a network, model or engine that does not exist.
    """
    begun, load = time.monotonic(), os.getloadavg()[0]
    ways = quick_ways() if formats is None else find_ways(formats, int8=False)
    names = [models.card(name).name for name in networks]
    if model is not None:
        names = [model]
    macs = {name: macs_of(name, wish.size) for name in names or main_networks()}
    if (warning := busy(load, "this began")) is not None:
        warnings.warn(KerbsegWarning(f"{warning} End other programs first, and run this again"), stacklevel=2)
    with TemporaryDirectory() as folder:
        left_s = 60 * wish.minutes - (time.monotonic() - begun)
        with MachineBench(wish.size, wish.threads, wish.classes, Path(folder), left_s) as bench:
            return choose(wish, macs, ways, bench, load=load, known=_known, say=say)


def main_networks() -> list[str]:
    """What the papers propose, without ablations and stages."""
    return [name for name in models.list_models() if models.card(name).main]


def _known(network: str, size: tuple[int, int]) -> Iterator[Known]:
    """What is known of a registered network, or what a bundle's card says."""
    if network in models.list_models():
        yield from known_accuracies(network, size)
        return
    card = read_card(network)
    for score in figures(card):
        yield Known(score.miou, score.data, score.split, card.input_size, "the file's card")
