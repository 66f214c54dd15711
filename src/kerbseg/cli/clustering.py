"""What `predict` and `evaluate` do with `--engine ray`, and what they say of it."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerbseg.cli.terminal import progress, tell, write_json
from kerbseg.core.errors import DataError, KerbsegError, KerbsegWarning, check_installed
from kerbseg.core.text import ADDRESS, counted

if TYPE_CHECKING:
    from kerbseg.cluster import EvaluateTask, PredictTask
    from kerbseg.core.types import Dataset
    from kerbseg.evaluate import By, Report
    from kerbseg.predict import Predictor
    from kerbseg.runtime import Runtime

PARQUET = "parquet"
"""The word of `--save` for rows of Parquet."""
SHOWN = 10  # failures that are printed; all are in a file
EVERY_S = 10.0  # between lines of progress where there is no terminal


@dataclass(frozen=True)
class Cluster:
    """The options that say where the work is done."""

    address: str | None = None
    workers: int | None = None

    @classmethod
    def parse(cls, engine: str | None, address: str | None, workers: int | None) -> Cluster | None:
        """Of the options as they are typed; None without `--engine`. Raises KerbsegError for what is none."""
        if engine is None:
            if address is not None or workers is not None:
                raise KerbsegError("--address and --workers are of --engine ray; add it, or leave them out")
            return None
        if engine != "ray":
            raise KerbsegError(
                f"--engine says where the work is done, and knows ray alone, not {engine!r}; the engine that runs the"
                " model is --runtime"
            )
        if workers is not None and workers < 1:
            raise KerbsegError(f"{workers} workers do nothing; give at least 1")
        return cls(address, workers)

    def refuse(self, options: Mapping[str, object]) -> None:
        """Raises KerbsegError for the first option that is given and is not done on a cluster."""
        for name, value in options.items():
            if value is not None and value is not False and value != ():
                raise KerbsegError(f"{name} is not done with --engine ray; leave one of the two out")


def words_of(save: str | None) -> tuple[tuple[str, ...] | None, bool]:
    """The words of `--save` but parquet (None: the usual files), and whether that is one of them."""
    if save is None:
        return None, False
    words = [word.strip() for word in save.split(",") if word.strip()]
    if not words:
        raise KerbsegError("--save names nothing to write; leave it out, or name results such as ids,parquet")
    return tuple(word for word in words if word != PARQUET), PARQUET in words


def local_folder(out: str | None) -> Path | None:
    """The folder that `-o` names. Raises KerbsegError for an address: stores are written to by workers alone."""
    if out is not None and ADDRESS.match(out):
        raise KerbsegError(f"{out} is in a store; add --engine ray, or name a folder: -o out")
    return None if out is None else Path(out)


def cluster_folder(out: str | None, predictor: Predictor) -> str:
    """Where results go: an absolute path, or an address as it is. Raises KerbsegError as `results_folder`."""
    from kerbseg.cli.predicting import results_folder
    from kerbseg.cluster.folders import LOCAL

    if out is not None and out.startswith(LOCAL):  # of this machine's file system, so by its own rules
        out = out.removeprefix(LOCAL)
    if out is not None and ADDRESS.match(out):
        return out
    if out is not None and out.endswith(".mcap"):
        raise KerbsegError(f"{out} is a bag, which one process writes; leave --engine out, or name a folder")
    return os.path.abspath(results_folder(None if out is None else Path(out), predictor))


def predict_on_cluster(
    cluster: Cluster,
    task: PredictTask,
    predictor: Predictor,
    inputs: Sequence[str],
    protocol: Mapping[str, Any],
    json: Path | None,
    recursive: bool,
    topics: Sequence[str],
) -> None:
    """Predicts what inputs name, and says what came of it; leaves with status 1 where some could not be segmented."""
    from kerbseg.cluster import find_items, predict_items
    from kerbseg.cluster.folders import open_folder
    from kerbseg.cluster.pool import ray_pool
    from kerbseg.cluster.records import Records
    from kerbseg.cluster.stores import PRIVATE

    check_installed("ray", ["ray", "pyarrow", "fsspec"])
    for each in (*inputs, task.out):
        if each.partition("://")[0] in PRIVATE and ADDRESS.match(each):
            raise KerbsegError(f"{each} is seen by one process alone, not by workers; name a store such as s3://")
    items, unknown = find_items(inputs, task.out, recursive=recursive, topics=topics, sinks=task.sinks)
    if not items and len(unknown) == 1:
        raise next(iter(unknown.values()))
    Records(open_folder(task.out)).check(task.settings())  # before anything is started
    options, told = task.options, _Told()
    with ray_pool(cluster.address, cluster.workers, options.threads or 1, options.device) as pool:
        tell(f"{counted(len(items), 'file')}, {counted(pool.workers, 'worker')}")
        report = predict_items(task, items, pool, workers=pool.workers, progress=told)
    if report.done or report.before:
        _write_classes(task.out, predictor, protocol)
    failures = {**{given: str(error) for given, error in unknown.items()}, **report.failures}
    if json is not None:
        made = {**protocol, "engine": "ray", "workers": pool.workers}
        write_json(json, {**report.to_dict(), "failed": failures, "protocol": made})
    tell(f"{report}; results in {task.out}")
    _leave_unfinished(failures, len(items) + len(unknown), task.out)


def absolute_root(data: str, root: Path | None) -> str:
    """The folder of a data set as each worker opens it, wherever it runs. Raises DataError where there is none."""
    from kerbseg.data import data_root
    from kerbseg.data.joined import MARK

    if root is None and MARK in data:
        root = data_root(data.partition(MARK)[0]).parent
    return os.path.abspath(data_root(data) if root is None else root)


def evaluate_on_cluster(
    cluster: Cluster, task: EvaluateTask, runtime: Runtime, dataset: Dataset, limit: int | None, by: By | None
) -> Report:
    """The report of `kerbseg evaluate`, of confusions alone."""
    from kerbseg.cluster import evaluate_on
    from kerbseg.cluster.pool import ray_pool

    with ray_pool(cluster.address, cluster.workers, task.options.threads or 1, task.options.device) as pool:
        return evaluate_on(task, runtime, dataset, pool, limit=limit, by=by, workers=pool.workers, progress=progress)


class _Told:
    """Shows outcomes as they come, with a bar on a terminal, elsewhere with a line now and then; of all attempts."""

    def __init__(self) -> None:
        self._done, self._told = 0, time.monotonic()

    def __call__(self, outcomes: Any) -> Iterator[dict[str, Any]]:
        shown: Callable[[Any], Iterable[Any]] = progress
        for outcome in shown(outcomes):
            yield outcome
            self._done += len(outcome["done"])
            if not sys.stderr.isatty() and time.monotonic() - self._told > EVERY_S:
                self._told = time.monotonic()
                tell(f"{counted(self._done, 'file')} finished")


def _write_classes(out: str, predictor: Predictor, protocol: Mapping[str, Any]) -> None:
    """What the ids mean, beside them."""
    from json import dumps

    from kerbseg.cluster.folders import open_folder
    from kerbseg.core.classes import CLASSES, classes_document, write_classes

    if not ADDRESS.match(out):
        write_classes(out, predictor.labels, protocol)
        return
    open_folder(out).write(CLASSES, f"{dumps(classes_document(predictor.labels, protocol), indent=1)}\n".encode())


def _leave_unfinished(failures: Mapping[str, str], total: int, out: str) -> None:
    """Lists what could not be segmented, and leaves with status 1; one that was alone is a DataError."""
    if not failures:
        return
    if total == 1:
        raise DataError(next(iter(failures.values())))
    from kerbseg.cluster.records import FAILURES

    for key, reason in islice(failures.items(), SHOWN):
        warnings.warn(KerbsegWarning(reason if key in reason else f"{key}: {reason}"), stacklevel=2)
    where = f"see above and {out}/{FAILURES}; the same command tries them again"
    print(f"kerbseg: {len(failures)} of {total} inputs could not be segmented; {where}", file=sys.stderr)
    sys.exit(1)
