"""Pictures, folders, globs, videos and streams, each into the files that sinks write of it."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, InputError, KerbsegError, KerbsegWarning, MissingExtra
from kerbseg.core.files import remove_leftovers
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Sample
from kerbseg.predict.drawings import Style
from kerbseg.predict.inputs import expand
from kerbseg.predict.interrupts import ending_once
from kerbseg.predict.live import check_live
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.reports import PictureReport, VideoReport
from kerbseg.predict.sinks import SinkKind, open_sinks, targets_of
from kerbseg.predict.sources import Source
from kerbseg.predict.videos import Segmenter, VideoOptions, checked_segmenter, video_steps

Plan = Mapping[Source, Mapping[SinkKind, Path]]  # what is written of each source, and where

REFUSED_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
"""The system's errors where it is only this name that a file cannot have."""


class Unfinished(DataError):
    """Some of several inputs could not be segmented; `failures` says why, by input. The others are finished."""

    def __init__(self, failures: Mapping[str, KerbsegError], total: int) -> None:
        self.failures = dict(failures)
        rest = "the others are finished" if len(failures) < total else "see the warnings above"
        super().__init__(f"{len(failures)} of {total} inputs could not be segmented ({rest}): {', '.join(failures)}")


def _unreported(report: PictureReport) -> None:
    pass


def predict_files(
    predictor: Segmenter,
    inputs: Sequence[str | Path],
    out: str | Path,
    progress: Callable[[Any], Iterable[Any]] = iter,
    options: VideoOptions | None = None,
    *,
    sinks: str | Sequence[str | SinkKind] | None = None,
    style: Style | None = None,
    recursive: bool = False,
    on_picture: Callable[[PictureReport], object] = _unreported,
    topics: Sequence[str] = (),
) -> list[Source]:
    """Writes `<stem>_ids.png` and `<stem>_overlay.png` of pictures, `<stem>_overlay.mp4` of videos.

    Returns the sources. Inputs are pictures, videos, folders (the pictures and videos right in them, hidden files and
    our own results left out; with `recursive` those of subfolders too, each into a subfolder of `out`), globs, and
    streams: `-` for the standard input, a camera's number or device, a named pipe, an address; and whatever else
    `SOURCES` knows. `sinks` name what to write instead (see `SINKS`), `style` says how overlays look. Inputs of one
    stem keep their suffixes in the names of their results. `on_picture` is called with what came of each picture.
    `topics` are those of bags whose pictures are meant; each is a video.

    One of several inputs that cannot be read is warned of (KerbsegWarning), and the others are segmented; at the end
    all such are raised as Unfinished. A single one raises its own DataError. Raises KerbsegError before any work where
    two results would have one name, and at once where a result cannot be written; what was finished stays.
    """
    checked_segmenter(predictor)
    options, out = options or VideoOptions(), checked_folder(out)
    given = expand(inputs, options.raw, recursive, leave_out=out, topics=topics)
    plan = plan_results(given.sources, out, sinks, style)
    _check_videos(given.sources, options)
    total = len(plan) + len(given.failures)
    if total == 1 and given.failures:
        raise next(iter(given.failures.values()))
    for error in given.failures.values():
        warnings.warn(KerbsegWarning(str(error)), stacklevel=2)
    results = [target for targets in plan.values() for target in targets.values()]
    for folder in {target if target.is_dir() else target.parent for target in results}:
        remove_leftovers(folder)
    with ending_once(SIGINT), closing(_Steps(predictor, plan, options, on_picture, alone=total == 1)) as steps:
        for _ in progress(steps):
            pass
    if failures := {**given.failures, **steps.failures}:
        raise Unfinished(failures, total)
    return list(plan)


def plan_results(
    sources: Sequence[Source],
    out: str | Path,
    sinks: str | Sequence[str | SinkKind] | None = None,
    style: Style | None = None,
) -> Plan:
    """What is written of each source, and where; those of one stem have their suffixes in their names.

    Raises KerbsegError where two results would have one name, or one would overwrite an input.
    """
    named = partial(targets_of, out=out, names=sinks, style=style)
    plan = _with_suffixes({source: named(source) for source in sources}, named)
    _refuse_clashes(plan)
    return plan


def predict_source(
    predictor: Segmenter, source: Source, targets: Mapping[SinkKind, Path], options: VideoOptions | None = None
) -> PictureReport | VideoReport:
    """Writes what is predicted of one source to its targets (see `targets_of`), and says what came of it.

    Raises as `predict_files` does of a single input.
    """
    reports: list[PictureReport | VideoReport] = []
    options = replace(options or VideoOptions(), on_report=reports.append)
    with closing(_Steps(predictor, {source: targets}, options, reports.append, alone=True)) as steps:
        for _ in steps:
            pass
    return reports[-1]


def _check_videos(sources: Sequence[Source], options: VideoOptions) -> None:
    """Raises KerbsegError for what is asked of a video where no input is one, or of a live stream where one is none."""
    asked = {"flicker is measured between": options.flicker, "stride chooses from": options.stride > 1}
    asked |= {"the newest is taken of": options.newest, "smooth is a vote over": options.smooth is not None}
    videos = [source for source in sources if source.kind == "video"]
    for what in (what for what, wanted in asked.items() if wanted):
        if sources and not videos:
            raise KerbsegError(f"{what} the frames of a video, and no input is one; leave it out")
    if options.newest:
        for source in videos:
            check_live(source)


def checked_folder(out: str | Path) -> Path:
    """The folder of results. Raises KerbsegError for what is none and cannot become one."""
    if str(out) in ("-", "/dev/stdout", "/dev/stdin"):
        raise KerbsegError("predict writes several files, which the standard output cannot take; name a folder: -o out")
    out = Path(out)
    try:
        if out.exists() and not out.is_dir():
            raise KerbsegError(f"{out} is a file, and predict writes into a folder; name another one: -o out")
    except OSError as error:
        raise KerbsegError(f"{out} cannot be used as a folder: {error.strerror}; choose another place") from error
    return out


def _with_suffixes(plan: Plan, named: Callable[[Source], Mapping[SinkKind, Path]]) -> Plan:
    """The plan, with the suffixes of inputs in the names of results that would be one without."""
    writers: dict[Path, list[Source]] = {}
    for source, targets in plan.items():
        for target in targets.values():
            writers.setdefault(target, []).append(source)
    alike = {
        source for sources in writers.values() for source in sources if not all(_same(source, each) for each in sources)
    }
    renamed: dict[Source, Mapping[SinkKind, Path]] = {}
    for source, targets in plan.items():
        if source in alike and source.path is not None:
            source = replace(source, name=str(Path(source.name).with_name(source.path.name)))
            targets = named(source)
        renamed[source] = targets
    return renamed


def _refuse_clashes(plan: Plan) -> None:
    writers: dict[str, Source] = {}
    inputs = {os.path.realpath(source.path) for source in plan if source.path is not None}
    for source, targets in plan.items():
        for target in targets.values():
            result = os.path.realpath(target)
            if result in inputs:
                raise KerbsegError(f"the result of {source} would overwrite the input {result}; choose another folder")
            other = writers.setdefault(result, source)
            if not _same(other, source):
                raise KerbsegError(
                    f"{other} and {source} would both write {target.name}; predict them into two folders"
                )


def _same(one: Source, other: Source) -> bool:
    """Whether two inputs are one, perhaps spelled in two ways."""
    if one.path is None or other.path is None:
        return one == other
    return os.path.realpath(one.path) == os.path.realpath(other.path)


class _Steps:
    """Segments sources as it is iterated: one step a picture, one a frame; a progress bar asks how many there are.

    A source that cannot be read ends it if it is alone; else it is warned of, and kept in `failures`.
    """

    def __init__(
        self,
        predictor: Segmenter,
        plan: Plan,
        options: VideoOptions,
        on_picture: Callable[[PictureReport], object],
        alone: bool,
    ) -> None:
        self._predictor, self._plan, self._options, self._alone = predictor, plan, options, alone
        self._on_picture = on_picture
        self._video: Generator[None] | None = None
        self.failures: dict[str, KerbsegError] = {}

    def __length_hint__(self) -> int:
        stride = self._options.stride
        counts = [-(-source.count() // (stride if source.kind == "video" else 1)) for source in self._plan]
        return sum(counts) if all(counts) else 0  # of one nobody knows

    def __iter__(self) -> Iterator[None]:
        for source, targets in self._plan.items():
            try:
                if source.kind == "picture":
                    yield from self._pictures(source, targets)
                else:
                    self._video = video_steps(source, self._predictor, targets, self._options)
                    yield from self._video
            except KerbsegError as error:
                if self._alone or not _is_its_own(error):
                    raise
                self.failures[str(source)] = error
                warnings.warn(KerbsegWarning(str(error)), stacklevel=2)

    def _pictures(self, source: Source, targets: Mapping[SinkKind, Path]) -> Iterator[None]:
        confidence = any(kind.confidence for kind in targets)
        prediction = None
        with open_sinks(targets, source, self._predictor.labels) as adds:
            for frame in source:
                started = time.perf_counter()
                prediction = self._predictor(frame.picture, channels="rgb", confidence=confidence)
                elapsed_s = time.perf_counter() - started
                for add in adds:
                    add(frame, prediction)
            if prediction is None:
                raise DataError(f"{source} gave no picture")
        self._on_picture(
            PictureReport(
                source=str(source),
                name=str(Path(source.name).with_name(source.path.name)) if source.path else source.name,
                targets=tuple(targets.values()),
                size=prediction.ids.shape,
                shares=prediction.shares(),
                ms=1000 * elapsed_s,
            )
        )
        yield

    def close(self) -> None:
        """Finishes the video that is under way: what stopped us may have come while it waited to be asked for more."""
        if self._video is not None:
            self._video.close()


def _is_its_own(error: KerbsegError) -> bool:
    """Whether an error is one input's, so that the next may be fine: a full disk is everybody's."""
    refused = isinstance(error.__cause__, OSError) and error.__cause__.errno in REFUSED_NAMES
    return refused or isinstance(error, DataError | InputError | MissingExtra)


def saving(folder: Path, labels: LabelSet) -> Callable[[Sample, UInt8[np.ndarray, "h w"]], None]:
    """What writes each sample's prediction into a folder, for `evaluate`'s `on_prediction`."""

    def save(sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        Prediction(ids, labels, picture=sample.image).save(folder / sample.name)

    return save
