"""Evaluation on a cluster: each worker counts the confusions of some pictures, and their sum is that of all.

Counts are whole numbers, so the sum is the same in any order, and the metrics equal those of one process to the last
bit.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from kerbseg.cluster.model import ModelFiles
from kerbseg.cluster.task import Counted, Outcome, Run
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.drives import drives_of
from kerbseg.evaluate import TTA, By, Report, check_request, label_report, picture_confusion, with_tta
from kerbseg.runtime import Fit, Runtime, RuntimeOptions, network_size

LARGEST = 16
"""Pictures of a shard at most."""


@dataclass(frozen=True)
class EvaluateTask:
    """A model and a split, which each worker opens: the data set lies where all machines see it."""

    model: ModelFiles
    data: str
    split: str
    data_root: str | None = None  # an absolute path
    options: RuntimeOptions = field(default_factory=lambda: RuntimeOptions(threads=1))
    fit: Fit = "letterbox"
    tta: TTA = "none"

    def open(self) -> Callable[[Sequence[int]], Outcome]:
        """What counts pictures, by their numbers: of each its confusion, and the sizes of its labels and input."""
        dataset = open_dataset(self.data, self.split, self.data_root)
        runtime = self.model.open(self.options)
        predictor = with_tta(runtime, self.tta)

        def count(indices: Sequence[int]) -> Outcome:
            pictures = []
            try:
                for index in indices:
                    sample = dataset[index]
                    height, width = sample.mask.shape
                    confusion = picture_confusion(predictor, sample, len(dataset.labels), self.fit)
                    size = network_size((height, width), runtime, "trained")
                    pictures.append({"index": index, "confusion": confusion.tolist(), "sizes": [[height, width], size]})
            except KerbsegError as error:  # the same on any worker
                return {"pictures": pictures, "error": str(error)}
            return {"pictures": pictures}

        return count


def evaluate_on(
    task: EvaluateTask,
    runtime: Runtime,
    dataset: Dataset,
    run: Run,
    *,
    limit: int | None = None,
    by: By | None = None,
    workers: int = 1,
    progress: Callable[[Any], Iterable[Any]] = iter,
) -> Report:
    """The report of `kerbseg.evaluate.evaluate`, of confusions alone; model and data set are the task's, opened here.

    Raises as that one does; KerbsegError where pictures were lost with their workers.
    """
    check_request(runtime, dataset, task.tta, limit, by)
    count = min(limit or len(dataset), len(dataset))
    drives = drives_of(dataset.names) if by == "drive" else None
    size = max(1, min(LARGEST, -(-count // (4 * workers))))
    shards = [range(at, min(at + size, count)) for at in range(0, count, size)]
    start = time.monotonic()
    confusions: defaultdict[str, Int[Tensor, "k k"]] = defaultdict(
        lambda: torch.zeros(len(dataset.labels), len(dataset.labels), dtype=torch.int64)
    )
    images: Counter[str] = Counter()
    label_sizes, input_sizes, seen = set(), set(), set()
    for outcome in progress(Counted(run(task, shards), len(shards))):
        if "error" in outcome:
            raise DataError(outcome["error"])
        for picture in outcome["pictures"]:
            index = picture["index"]
            if index in seen:  # its worker was killed before it could say that it had been counted
                continue
            seen.add(index)
            drive = "" if drives is None else drives[index]
            confusions[drive] += torch.tensor(picture["confusion"])
            images[drive] += 1
            label, network = map(tuple, picture["sizes"])
            label_sizes.add(label)
            input_sizes.add(network)
    if len(seen) < count:
        raise KerbsegError(
            f"{count - len(seen)} of {count} pictures were lost: their workers ended without a word; give fewer"
            " --workers, if memory is short"
        )
    return label_report(
        runtime,
        dataset,
        confusions,
        images,
        limit=limit,
        fit=task.fit,
        tta=task.tta,
        by=by,
        label_sizes=label_sizes,
        input_sizes=input_sizes,
        elapsed_s=time.monotonic() - start,
    )
