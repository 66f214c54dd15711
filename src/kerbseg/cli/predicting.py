"""What `kerbseg predict` prints of its results, shows and notes beside them."""

from __future__ import annotations

import sys
import time
import warnings
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from rich.cells import cell_len

from kerbseg.bundle_card import versions
from kerbseg.cli.options import parse_size
from kerbseg.cli.terminal import progress, tell, width, write_json
from kerbseg.core.classes import check_classes, has_other_classes
from kerbseg.core.errors import DataError, KerbsegError, KerbsegWarning
from kerbseg.core.text import counted, redact
from kerbseg.predict import (
    PictureReport,
    Predictor,
    Roi,
    Style,
    Unfinished,
    VideoOptions,
    VideoReport,
    predict_files,
    write_classes,
)
from kerbseg.predict.bags import BAG, BagJob, bag_job, predict_bag
from kerbseg.predict.files import checked_folder
from kerbseg.predict.looks import Looks
from kerbseg.predict.reports import LINE, milliseconds
from kerbseg.predict.sinks import SINKS, SinkKind, saved, usual
from kerbseg.predict.videos import Segmenter
from kerbseg.predict.viewer import open_file

FOLDER = "predictions"  # of results, where none is named
SHOWN = tuple(f"_{word}{suffix}" for word in ("overlay", "side", "color", "palette") for suffix in (".png", ".mp4", ""))
"""Endings of what `--show` can open, the first that is saved; of a video's pictures their folder."""


def results_folder(out: Path | None, predictor: Predictor) -> Path:
    """Where the results go: the folder that was named, or `predictions` here, with a number where others lie there.

    Raises KerbsegError where results of other classes lie in the one that was named.
    """
    if out is None:
        numbered = (Path(FOLDER if number == 1 else f"{FOLDER}{number}") for number in count(1))
        out = next(folder for folder in numbered if not has_other_classes(folder, predictor.labels))
    check_classes(checked_folder(out), predictor.labels)
    return out


def kinds_to_save(save: str | None, sink: Sequence[str], confidence: bool = False) -> list[SinkKind] | list[str] | None:
    """What is written, by the words of `--save` or of the older `--sink`; None for the usual.

    With `confidence`, that is written too.
    """
    if confidence:
        others = usual() if save is None and not sink else kinds_to_save(save, sink) or []
        return [SINKS[each] if isinstance(each, str) else each for each in others] + [SINKS["confidence"]]
    if sink:
        if save is not None:
            raise KerbsegError("--sink is the older name of --save; give one of them")
        warnings.warn(
            KerbsegWarning(
                f"--sink is called --save now: --save {','.join(sink)} (of a video, overlay is one video there, and"
                " frames are its pictures)"
            ),
            stacklevel=2,
        )
        return list(sink)
    if save is None:
        return None
    words = [word.strip() for word in save.split(",") if word.strip()]
    if "parquet" in words:
        raise KerbsegError("--save parquet is written with --engine ray; add it, or name pictures such as ids,overlay")
    kinds = saved(words)
    if not kinds:
        raise KerbsegError("--save names nothing to write; leave it out, or name results such as ids,overlay")
    return kinds


def parse_looks(
    size: str | None, roi: str | None, tiles: str | None, overlap: int | None, cpus: frozenset[int] | None
) -> Looks:
    """How pictures are looked at, of the options as they are typed.

    Raises KerbsegError for what is none, or contradicts another.
    """
    if size is not None and tiles is not None:
        raise KerbsegError("--tiles looks at pictures as large as they are; leave --size or --tiles out")
    if overlap is not None and tiles is None:
        raise KerbsegError("--overlap is that of --tiles; give both, or neither")
    return Looks(parse_size(size), None if roi is None else Roi.parse(roi), parse_size(tiles), overlap, cpus)


def protocol(predictor: Predictor) -> dict[str, Any]:
    """By what results were made, for JSON."""
    engine = predictor.runtime
    made: dict[str, Any] = {"model": engine.card.model, "runtime": engine.name, "precision": engine.precision}
    made["temperature"] = engine.card.temperature  # null: of confidence as the network has it
    if predictor.unknown is not None:
        made |= {"unknown": predictor.unknown}
    if predictor.measure != "probability":
        made |= {"measure": predictor.measure}
    return {**made, "versions": versions()}


class Results:
    """Takes what came of each input: prints its line, writes `classes.json` at the first, opens the first."""

    def __init__(
        self, predictor: Predictor, out: Path, show: bool, keep: bool, looks: Mapping[str, Any] | None = None
    ) -> None:
        self._predictor, self._out, self._show, self._keep = predictor, out, show, keep
        self._looks = looks or {}  # how pictures are looked at, for JSON
        self._name_columns = 0
        self._noted = False
        self._since = time.monotonic()  # when the last input was finished
        self._ms, self._elapsed_s = array("d"), 0.0  # of pictures
        self._pictures: list[dict[str, Any]] = []
        self._videos: list[VideoReport] = []

    def picture(self, report: PictureReport) -> None:
        """Takes a picture's."""
        self._ms.append(report.ms)
        self._elapsed_s += self._lap()
        if self._keep:
            self._pictures.append(report.to_dict())
        self._note(report.targets)
        self._name_columns = max(self._name_columns, cell_len(report.short_name))
        tell(report.line(min(LINE, width()), self._name_columns))

    def video(self, report: VideoReport) -> None:
        """Takes a video's, of one that ended early too."""
        self._lap()
        self._videos.append(report)
        if report.frames:
            self._note(report.targets)
        tell(report)

    def totals(self) -> None:
        """Prints how many inputs there were, how long they took, and where the results are."""
        totals = []
        if self._ms:
            pictures, rate = counted(len(self._ms), "picture"), len(self._ms) / self._elapsed_s
            with_files = f"{rate:.1f} a second with reading and writing"
            totals.append(f"{pictures}, median {milliseconds(median(self._ms))}, {with_files}")
        if self._videos:
            totals.append(counted(len(self._videos), "video"))
        if totals:
            tell(f"{'; '.join(totals)}; results in {self._out}")

    def to_dict(self, failed: Mapping[str, KerbsegError]) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "pictures": self._pictures,
            "videos": [video.to_dict() for video in self._videos],
            "failed": {redact(given): str(error) for given, error in failed.items()},
            "protocol": {**self._protocol(), **self._looks},
        }

    def _protocol(self) -> dict[str, Any]:
        return protocol(self._predictor)

    def _lap(self) -> float:
        since, self._since = self._since, time.monotonic()
        return self._since - since

    def _note(self, targets: Sequence[Path]) -> None:
        """Of the first result: what its ids mean, and a look at it."""
        if self._noted:
            return
        self._noted = True
        write_classes(self._out, self._predictor.labels, self._protocol())
        if self._show:
            try:
                open_file(_to_show(targets))
            except KerbsegError as error:
                warnings.warn(KerbsegWarning(str(error)), stacklevel=2)


def _to_show(targets: Sequence[Path]) -> Path:
    for ending in SHOWN:
        for path in targets:
            if path.name.endswith(ending):
                return path
    raise KerbsegError("nothing that can be looked at was written; add overlay to --save")


def predict_and_tell(
    predictor: Segmenter,
    inputs: Sequence[str],
    out: Path,
    results: Results,
    options: VideoOptions,
    json: Path | None,
    **more: Any,
) -> None:
    """Predicts the inputs as `predict_files` does, and says what came of them, whatever ends it."""
    failed: Mapping[str, KerbsegError] = {}
    try:
        predict_files(predictor, inputs, out, progress, options, on_picture=results.picture, **more)
    except Unfinished as error:
        failed = error.failures
        unfinished = error
    finally:  # Ctrl-C is how a camera's pictures end
        if json is not None:
            write_json(json, results.to_dict(failed))
        results.totals()
    if failed:
        print(f"kerbseg: {unfinished}", file=sys.stderr)
        sys.exit(1)


def bag_to_write(
    inputs: Sequence[str],
    out: Path | None,
    save: str | None,
    topics: Sequence[str],
    only: bool,
    prefix: str | None,
    confidence: bool,
    smooth: float | None,
    others: Mapping[str, object] | None = None,
) -> BagJob | None:
    """The bag that is asked for, None where files are; `others` are options that mean nothing to a bag.

    Raises KerbsegError where it is not one bag that is read, and for one of the others that is given.
    """
    words = None if save is None else [word.strip() for word in save.split(",") if word.strip()]
    if confidence:
        words = words or []
        words += ["confidence"] if set(words) - {BAG} else ["ids", "confidence"]
    job = bag_job(out, words, topics, only, prefix, smooth is not None)
    if job is not None and len(inputs) != 1:
        raise KerbsegError(f"a bag is made of one bag, and {len(inputs)} inputs are named; name one")
    for option, given in (others or {}).items():
        if job is not None and given not in (None, False, ()):
            raise KerbsegError(f"{option} is of pictures and videos, and {job.out} is a bag; leave it out")
    return job


def predict_bag_and_tell(
    predictor: Predictor,
    segmenter: Segmenter,
    given: str,
    job: BagJob,
    options: VideoOptions,
    style: Style,
    json: Path | None,
    looks: Mapping[str, Any],
) -> None:
    """Predicts a bag as `predict_bag` does, and says what came of it; leaves with status 1 where it ended early."""
    results = _BagResults(predictor, job.out, show=False, keep=False, looks=looks)
    reports: list[VideoReport] = []

    def keep(report: VideoReport) -> None:
        reports.append(report)
        results.video(report)

    try:
        predict_bag(segmenter, given, job, progress, replace(options, on_report=keep), style)
    except DataError as error:
        if not any(report.frames for report in reports):
            raise
        print(f"kerbseg: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        if json is not None:
            write_json(json, results.to_dict({}))


class _BagResults(Results):
    """What a bag's classes are called stands in it, so no file beside it says so."""

    def _note(self, targets: Sequence[Path]) -> None:
        pass
