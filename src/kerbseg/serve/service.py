"""Models behind one bounded queue, and the threads that segment what waits there."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.bundle_card import BundleCard
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.hub.addresses import Address, is_address
from kerbseg.model_files import BEST, locate
from kerbseg.predict import Prediction, Predictor
from kerbseg.runtime import SupportsConfidence, network_size
from kerbseg.runtime.engines import suffix_of
from kerbseg.serve.jobs import Full, Job, JobQueue
from kerbseg.serve.limits import Limits
from kerbseg.serve.metrics import Metrics
from kerbseg.serve.refusals import BUSY, DEFECT, LATE, TOO_LARGE, UNKNOWN, Refusal, status_of

logger = logging.getLogger(__name__)

WARM_UP = 2  # calls of each worker: the first is slow, and the second compiles what makes the others fast
NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model under the name by which requests ask for it."""

    name: str
    predictor: Predictor

    @property
    def card(self) -> BundleCard:
        """That of its file."""
        return self.predictor.runtime.card

    def to_dict(self) -> dict[str, Any]:
        """As `/v1/models` lists it."""
        runtime = self.predictor.runtime
        return {
            "name": self.name,
            "network": self.card.model,
            "labels": self.card.labels.name,
            "classes": list(self.card.labels.classes),
            "input_size": list(self.card.input_size),
            "runtime": runtime.name,
            "device": runtime.device,
            "precision": runtime.precision,
            "confidence": isinstance(runtime, SupportsConfidence),
        }

    def card_dict(self) -> dict[str, Any]:
        """The card as it stands in a bundle."""
        card: dict[str, Any] = json.loads(self.card.to_json())
        return card


def named(models: Sequence[str]) -> dict[str, str]:
    """Models by the names under which they are served: NAME=MODEL says which, else it is that of the file, the run or
    the repository.

    Raises BundleError for a model that does not exist, KerbsegError for a name that stands twice, or that no address
    can hold.
    """
    found: dict[str, str] = {}
    for given in models:
        name, sign, model = given.partition("=")
        if not sign or Path(given).exists():
            name, model = _own_name(given), given
        if not NAME.fullmatch(name):
            raise KerbsegError(f"{name!r} cannot stand in an address; name it with letters and digits: NAME={model}")
        if name in found:
            raise KerbsegError(f"{found[name]} and {model} are both called {name}; name one of them: NAME={model}")
        found[name] = model
    return found


def _own_name(model: str) -> str:
    if is_address(model):
        return Address.parse(model).name
    file = locate(model)
    return file.resolve().parent.name if file.name == BEST else file.name.removesuffix(suffix_of(file))


class Service:
    """Segments the pictures of all requests, by models with names; the first is meant where a request names none.

    At most `limits.queue` pictures wait. Each worker, a thread, takes what came first, reads it, segments it with its
    part of the model's threads, and makes the answer. A picture that nobody waits for any more, or that waited too
    long, is dropped.
    """

    def __init__(self, predictors: Mapping[str, Predictor], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.workers = max(self.limits.workers_on(each.runtime.device) for each in predictors.values())
        self.models = {name: ServedModel(name, each.for_frames(self.workers)[0]) for name, each in predictors.items()}
        self.metrics = Metrics()
        self._queue = JobQueue(self.limits.queue, self._batch, self.limits.wait_ms / 1000)
        self._warm: list[Future[None]] = [Future() for _ in range(self.workers)]
        self._threads = [threading.Thread(target=self._run, args=(warm,), daemon=True) for warm in self._warm]
        self._picture_s = 0.0  # of work for one, a mean of the last ones

    def start(self) -> None:
        """Begins to take pictures, and returns when the networks are warm. Raises what keeps one from running."""
        for thread in self._threads:
            thread.start()
        for warm in self._warm:
            warm.result()

    def stop(self, wait: bool = True) -> None:
        """Takes no more pictures; with `wait` returns when those that wait are segmented."""
        self._queue.close()
        for thread in self._threads if wait else ():
            thread.join()

    def model(self, name: str | None = None) -> ServedModel:
        """The one of that name, or the first. Raises Refusal for an unknown name."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(UNKNOWN, f"no model {name!r} is served; {did_you_mean(name, self.models)}")
        return self.models[name]

    def submit(self, jobs: Sequence[Job]) -> None:
        """Lets pictures wait, all or none. Raises Refusal where there is no room for them."""
        try:
            self._queue.put(jobs)
        except Full:
            self.metrics.count("dropped_total", len(jobs), reason="full")
            if len(jobs) > self._queue.limit:
                message = f"{len(jobs)} pictures at once, and at most {self._queue.limit} may wait; send fewer"
                raise Refusal(TOO_LARGE, message) from None
            message = f"the queue is full ({len(self._queue)} of {self._queue.limit} pictures wait); try again later"
            raise Refusal(BUSY, message, self._patience_s()) from None

    def metrics_text(self) -> str:
        """What `/metrics` says."""
        return self.metrics.text({"queue_pictures": len(self._queue), "queue_limit": self._queue.limit})

    def _batch(self, model: str) -> int:
        return self.limits.batch_on(self.models[model].predictor.runtime.device)

    def _patience_s(self) -> int:
        """When there will be room, as far as one can tell."""
        return max(1, math.ceil(len(self._queue) * self._picture_s / self.workers))

    def _run(self, warm: Future[None]) -> None:
        try:
            for model in self.models.values():
                self._warm_up(model.predictor)
        except Exception as error:  # noqa: BLE001 # not swallowed: raised where the service is started
            warm.set_exception(error)
            return
        warm.set_result(None)
        while self._work(self._queue.take()):
            pass

    def _warm_up(self, predictor: Predictor) -> None:
        """In the worker's own thread: torch keeps threads for each that has called it, and more of them are slower."""
        runtime = predictor.runtime
        blank = np.zeros((*network_size(runtime.card.input_size, runtime, predictor.input_size), 3), np.uint8)
        for _ in range(WARM_UP):
            predictor(blank)

    def _work(self, jobs: Sequence[Job]) -> bool:
        """Answers jobs of one call; False where there are none any more."""
        started_s = time.monotonic()
        read = [(job, picture) for job in jobs if (picture := self._read(job)) is not None]
        if read:
            self._segment(*zip(*read, strict=True))
            spent_s = (time.monotonic() - started_s) / len(read)
            self._picture_s = spent_s if not self._picture_s else 0.9 * self._picture_s + 0.1 * spent_s
        return bool(jobs)

    def _read(self, job: Job) -> UInt8[np.ndarray, "h w 3"] | None:
        """A job's picture; None where it needs no work any more."""
        if not job.future.set_running_or_notify_cancel():
            self.metrics.count("dropped_total", reason="left")
            return None
        if time.monotonic() - job.came_s > self.limits.seconds:
            self.metrics.count("dropped_total", reason="late")
            late = f"the picture waited {self.limits.seconds:g} s without being segmented; try again later"
            job.future.set_exception(Refusal(LATE, late, self._patience_s()))
            return None
        return self._told(job, job.read)

    def _segment(self, jobs: Sequence[Job], pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> None:
        predictor, confidence = self.models[jobs[0].model].predictor, jobs[0].confidence
        if len(jobs) > 1:
            try:
                predictions = predictor.at_once(pictures, confidence=confidence)
            except Exception as error:  # not swallowed: each is tried alone, and says so by itself
                if status_of(error) is DEFECT:  # such as a GPU without the memory for so many
                    logger.error("%d pictures at once; each is tried alone", len(jobs), exc_info=error)
            else:
                self.metrics.count("calls_total", model=jobs[0].model)
                for job, prediction in zip(jobs, predictions, strict=True):
                    self._finish(job, prediction)
                return
        for job, picture in zip(jobs, pictures, strict=True):
            prediction = self._told(job, partial(predictor, picture, confidence=confidence))
            if prediction is not None:
                self.metrics.count("calls_total", model=job.model)
                self._finish(job, prediction)

    def _finish(self, job: Job, prediction: Prediction) -> None:
        answer = self._told(job, partial(job.finish, prediction))
        if answer is not None:
            self.metrics.count("pictures_total", model=job.model)
            job.future.set_result(answer)

    def _told(self, job: Job, step: Callable[[], Any]) -> Any:
        """What a step gives; None where it failed, which whoever waits for the job is told."""
        try:
            return step()
        except Exception as error:  # not swallowed: raised where the answer is awaited
            self.metrics.count("bad_total", model=job.model)
            if status_of(error) is DEFECT:
                logger.error("a picture for %s", job.model, exc_info=error)
            job.future.set_exception(error)
            return None
