"""Prediction of many files: what is finished is not done again, what fails is tried again alone, and then listed."""

from __future__ import annotations

import posixpath
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kerbseg.cluster.folders import open_folder
from kerbseg.cluster.items import Item, shards_of
from kerbseg.cluster.job import PredictTask
from kerbseg.cluster.records import DONE, PARTS, Records
from kerbseg.cluster.task import Counted, Run
from kerbseg.core.errors import KerbsegWarning
from kerbseg.core.text import counted

LOST = "each worker that took it ended without a word; it may have run out of memory, or been killed"


@dataclass(frozen=True)
class ClusterReport:
    """What came of a run."""

    done: int  # files, in this run
    before: int  # files that were finished before it
    frames: int  # of the files that were done
    failures: Mapping[str, str]  # by file, why
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg predict --json` writes it."""
        return {
            "files": {"done": self.done, "finished_before": self.before, "failed": len(self.failures)},
            "frames": self.frames,
            "failed": dict(self.failures),
            "elapsed_s": self.elapsed_s,
        }

    def __str__(self) -> str:
        rate = f", {self.frames / self.elapsed_s:.1f} frames a second" if self.frames else ""
        before = f", {self.before} before" if self.before else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{counted(self.done, 'file')} finished{before}{failed}; {counted(self.frames, 'frame')}{rate}"


def predict_items(
    task: PredictTask,
    items: Sequence[Item],
    run: Run,
    *,
    workers: int = 1,
    attempts: int = 2,
    progress: Callable[[Any], Iterable[Any]] = iter,
) -> ClusterReport:
    """Writes what is predicted of the items into the task's folder, each once, and says what came of it.

    A first attempt does shards; each further one does what is left, a file at a time, so that one that kills its worker
    takes no other with it. Raises KerbsegError where the folder holds what was made in another way.
    """
    started = time.monotonic()
    folder = open_folder(task.out)
    records, places = Records(folder), {".", PARTS, DONE, *(posixpath.dirname(item.name) for item in items)}
    records.begin(task.settings())
    finished = records.finished()
    todo = [item for item in items if item.key not in finished]
    total, frames = len(todo), 0
    reasons: dict[str, str] = {}
    for attempt in range(attempts):
        if not todo:
            break
        shards = shards_of(todo, workers) if attempt == 0 else shards_of(todo, workers, largest=1)
        reasons = {}
        for outcome in progress(Counted(run(task, shards), len(shards))):
            reasons |= outcome.get("failed", {})
            frames += outcome["frames"]
            for text in outcome.get("warnings", ()):
                warnings.warn(KerbsegWarning(text), stacklevel=2)
        finished = records.finished()  # a worker may be killed between its record and its word
        todo = [item for item in todo if item.key not in finished]
    folder.tidy(places)
    failures = {item.key: reasons.get(item.key, LOST) for item in todo}
    records.note_failures(failures)
    return ClusterReport(total - len(todo), len(items) - total, frames, failures, time.monotonic() - started)
