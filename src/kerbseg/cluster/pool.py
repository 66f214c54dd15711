"""Workers of Ray: an actor pool of Ray Data, one runtime each; the one place that imports ray."""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from kerbseg.cluster.task import Outcome, Task
from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.core.telemetry import switch_off

RESTARTS = 3
"""Times that a worker which ended is started anew, and that its shard is given to another; then the shard is lost."""
PATIENCE_S = 5.0
"""How long a cluster has to answer."""
STORE = 256 * 2**20
"""Bytes that processes of this machine share: a model, and what is said of shards."""
SHORT = 60
"""Characters of a folder for temporary files at most, in which Ray's sockets have room: a system allows 107."""
CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The variable that says, on Linux too, whether Ray opens its ports to other machines; read when it is imported."""
TOKEN = "RAY_AUTH_TOKEN"
"""That with the secret by which processes of a cluster know each other; Ray would leave one in the home folder."""


def ray_module(here: bool = False) -> ModuleType:
    """Ray, with Ray Data, that reports to nobody. Raises MissingExtra where it is not installed.

    One that is imported to work `here` alone listens to nobody outside this machine; who has imported it before has
    chosen otherwise.
    """
    switch_off()
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of what is not written in Python
    if here:
        os.environ.setdefault(CLUSTERS, "0")
        os.environ.setdefault(TOKEN, _token())
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    for name in ("ray", "ray.data"):  # what is to be said of the work, its outcomes say
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


@dataclass(frozen=True)
class RayPool:
    """Workers that take shards: a `Run`, while the block of `ray_pool` lasts."""

    workers: int
    threads: int  # of each
    gpus: int = 0  # of each

    def __call__(self, task: Task, shards: Sequence[Any]) -> Iterator[Outcome]:
        """Outcomes as they come. A shard is a block of Ray Data, so that one alone is done again."""
        ray = ray_module()
        data = ray.data
        data.DataContext.get_current().enable_progress_bars = False
        data.DataContext.get_current().max_errored_blocks = -1  # a lost shard stops no other
        rows = [{"shard": pickle.dumps(shard)} for shard in shards]  # for processes of ours alone
        with warnings.catch_warnings():
            # how often a worker is started anew has no other name yet (RayDeprecationWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            outcomes = data.from_items(rows, override_num_blocks=len(rows)).map(
                _Actor,
                fn_constructor_args=(task,),
                compute=data.ActorPoolStrategy(size=min(self.workers, len(shards)), max_tasks_in_flight_per_actor=1),
                num_cpus=self.threads,
                num_gpus=self.gpus,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
            )
        try:
            for row in outcomes.iter_rows():
                yield json.loads(row["outcome"])
        except ray.exceptions.RayError as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise KerbsegError(
                f"the workers do not start: {reason}; all machines need kerbseg with its extras, and see the data"
            ) from error


class _Actor:
    """A worker: opens the task once, and does shard after shard."""

    def __init__(self, task: Task) -> None:
        self._work = task.open()

    def __call__(self, row: dict[str, bytes]) -> dict[str, str]:
        """The outcome as text, whose columns are always the same."""
        return {"outcome": json.dumps(self._work(pickle.loads(row["shard"])))}


@contextmanager
def ray_pool(
    address: str | None = None, workers: int | None = None, threads: int = 1, device: str = "cpu"
) -> Iterator[RayPool]:
    """Workers of the cluster at an address (`auto`: the one that this machine is part of), or of this machine alone.

    Without `workers` there are as many as the processors have room for, with so many threads each. Without an
    address nothing listens outside this machine, and all ends with the block. Raises KerbsegError for an address at
    which there is no cluster, and where it has no room for a worker.
    """
    ray = ray_module(here=address is None)
    with TemporaryDirectory(prefix="kerbseg-ray-", ignore_cleanup_errors=True) as folder:
        if address is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            wanted = workers or max(1, cores // threads)
            short = {"_temp_dir": folder} if len(folder) <= SHORT else {}
            how: dict[str, Any] = {
                "address": "local",
                "num_cpus": wanted * threads,
                "include_dashboard": False,
                "object_store_memory": STORE,
                **short,
            }
        else:
            _check_answers(address)
            how = {"address": address}
        try:
            ray.init(**how, log_to_driver=False, logging_level="error", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = "here" if address is None else f"at {address}"
            raise KerbsegError(
                f"Ray does not start {where}: {error}; check --address, and `ray status` on that machine"
            ) from error
        try:
            yield _sized(ray, workers, threads, 0 if device == "cpu" else 1)
        finally:
            ray.shutdown()


@cache
def _token() -> str:
    """Of the cluster of this process; the next one has the same, since Ray reads it once."""
    return secrets.token_hex(32)


def _sized(ray: ModuleType, workers: int | None, threads: int, gpus: int) -> RayPool:
    """As many workers as were asked for, or as there is room for."""
    has = ray.cluster_resources()
    room = int(has.get("CPU", 0)) // threads
    if gpus:
        room = min(room, int(has.get("GPU", 0)) // gpus)
    if room < (workers or 1):
        raise KerbsegError(
            f"the cluster has room for {room} worker(s) of {threads} thread(s){' and a GPU' if gpus else ''}, and"
            f" {workers or 1} are asked for; give fewer --workers or --threads"
        )
    return RayPool(workers or room, threads, gpus)


def _check_answers(address: str) -> None:
    """Raises KerbsegError for an address that nothing answers at; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return
    if not host or not port.isdecimal():
        raise KerbsegError(f"address {address!r} is none of a cluster; write HOST:PORT, such as 10.0.0.5:6379, or auto")
    try:
        socket.create_connection((host, int(port)), PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise KerbsegError(
            f"no Ray cluster answers at {address}: {error}; check the address, or start one: ray start --head"
        ) from error
