"""The task of `kerbseg predict` on a cluster: what a worker does with a shard."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kerbseg.cluster.folders import open_folder
from kerbseg.cluster.items import Item, Shard
from kerbseg.cluster.model import ModelFiles
from kerbseg.cluster.parquet import PartWriter
from kerbseg.cluster.records import PARTS, Records
from kerbseg.cluster.stores import fetched
from kerbseg.cluster.task import Outcome
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.files import remove_leftovers
from kerbseg.core.text import ADDRESS
from kerbseg.predict import SINKS, SinkKind, Source, Style, VideoOptions, VideoReport
from kerbseg.predict.files import predict_source
from kerbseg.predict.looks import Looks
from kerbseg.predict.sinks import saved, targets_of, usual
from kerbseg.predict.sources import BagSource, open_source
from kerbseg.runtime import ConfidenceMeasure, Fit, RuntimeOptions


@dataclass(frozen=True)
class PredictTask:
    """All that decides the results. `words` are those of `--save` (None: the usual files) but parquet."""

    model: ModelFiles
    out: str  # an absolute path, or an address
    options: RuntimeOptions = field(default_factory=lambda: RuntimeOptions(threads=1))
    looks: Looks = field(default_factory=Looks)
    fit: Fit = "letterbox"
    measure: ConfidenceMeasure = "probability"
    unknown: float | None = None
    words: tuple[str, ...] | None = None
    parquet: bool = False
    confidence: bool = False
    style: Style = field(default_factory=Style)
    smooth: float | None = None
    stride: int = 1

    @property
    def sinks(self) -> list[SinkKind]:
        """What is written as files; nothing, where Parquet alone is asked for."""
        kinds = usual() if self.words is None else saved(self.words)
        return [*kinds, SINKS["confidence"]] if self.confidence and kinds else kinds

    def settings(self) -> dict[str, Any]:
        """What must be the same where a run goes on, as JSON has it."""
        roi, tile, size = self.looks.roi, self.looks.tile, self.looks.size
        return {
            "model": self.model.digest,
            "runtime": self.options.engine,
            "precision": self.options.precision,
            "size": None if size is None else list(size),
            "roi": None if roi is None else [roi.x, roi.y, roi.width, roi.height],
            "tiles": None if tile is None else [*tile, self.looks.overlap],
            "fit": self.fit,
            "measure": self.measure,
            "unknown": self.unknown,
            "save": None if self.words is None else sorted(self.words),
            "parquet": self.parquet,
            "confidence": self.confidence,
            "alpha": self.style.alpha,
            "legend": self.style.legend,
            "smooth": self.smooth,
            "stride": self.stride,
        }

    def open(self) -> Callable[[Shard], Outcome]:
        """A worker's, with a runtime of its own."""
        return _Worker(self)


class _Worker:
    def __init__(self, task: PredictTask) -> None:
        self._task = task
        how: dict[str, Any] = {"fit": task.fit, "measure": task.measure, "unknown": task.unknown}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KerbsegWarning)  # the one who asked was warned
            predictor, self._segmenter, _ = task.looks.open(task.model.open(task.options), **how)
        self._labels = predictor.labels
        self._folder = open_folder(task.out)
        self._records = Records(self._folder)

    def __call__(self, shard: Shard) -> Outcome:
        """Does the items that can be done; the others are in `failed`, with the reason.

        A shard that is finished is not done again: its worker was killed before it could say so.
        """
        if (finished := self._records.of(shard.id)) is not None:
            return finished
        done: list[str] = []
        failed: dict[str, str] = {}
        frames = 0
        with warnings.catch_warnings(record=True) as caught, TemporaryDirectory(prefix="kerbseg-shard-") as temporary:
            warnings.simplefilter("always", KerbsegWarning)
            path = Path(temporary) / "part.parquet"
            part = PartWriter(path, self._labels, len(shard.items) == 1) if self._task.parquet else None
            for item in shard.items:
                try:
                    frames += self._predict(item, part)
                    done.append(item.key)
                except KerbsegError as error:
                    failed[item.key] = str(error)
                except Exception as error:  # noqa: BLE001 # one defect must not stop a million pictures; it is listed
                    traceback.print_exc(file=sys.stderr)
                    failed[item.key] = f"a defect, of kerbseg or a package: {type(error).__name__}: {error}"
            name = None
            if part is not None:
                part.close()
                if done:
                    name = f"{PARTS}/{shard.id}.parquet"
                    self._folder.put(name, path)
        outcome = {"done": done, "frames": frames, "part": name}
        if done:
            self._records.commit(shard.id, outcome)
        told = [str(each.message) for each in caught if issubclass(each.category, KerbsegWarning)]
        return {**outcome, "failed": failed, "warnings": told}

    def _predict(self, item: Item, part: PartWriter | None) -> int:
        """Writes what is predicted of an item, and says how many frames it had."""
        task, frames = self._task, 0
        options = VideoOptions(task.smooth, stride=task.stride)
        with _local(item) as path, self._folder.filling() as out:
            try:
                for source in _sources(item, path):
                    own = VideoOptions() if source.kind == "picture" else options
                    targets = targets_of(source, out, task.sinks, task.style) if task.sinks else {}
                    if part is not None:
                        targets |= {part.kind(task.confidence): path}
                    for target in filter(Path.is_dir, targets.values()):  # of a video's frames
                        remove_leftovers(target)
                    report = predict_source(self._segmenter, source, targets, own)
                    frames += report.frames if isinstance(report, VideoReport) else 1
            except KerbsegError as error:
                raise KerbsegError(str(error).replace(str(path), item.address)) from error
        return frames


@contextmanager
def _local(item: Item) -> Iterator[Path]:
    """The file of an item, or a copy of it while it is needed."""
    if not ADDRESS.match(item.address):
        yield Path(item.address)
        return
    with TemporaryDirectory(prefix="kerbseg-in-") as folder:
        yield fetched(item.address, Path(folder))


def _sources(item: Item, path: Path) -> Sequence[Source]:
    """An item's sources: itself, or of a bag one for each topic."""
    source = replace(open_source(path, topics=item.topics), name=item.name, origin=item.address)
    return source.each() if isinstance(source, BagSource) else [source]
