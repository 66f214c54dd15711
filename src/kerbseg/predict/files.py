"""Pictures, folders, globs, videos and streams, each into the files that sinks write of it."""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Sample
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sinks import SINKS, SinkKind, open_sinks, targets_of
from kerbseg.predict.sources import RawFrames, Source, find_source, input_suffixes, open_source
from kerbseg.predict.sources.streams import takes_raw
from kerbseg.predict.videos import Segmenter, VideoOptions, video_steps

Plan = Mapping[Source, Mapping[SinkKind, Path]]  # what is written of each source, and where


def predict_files(
    predictor: Segmenter,
    inputs: Sequence[str | Path],
    out: str | Path,
    progress: Callable[[Any], Iterable[Any]] = iter,
    options: VideoOptions | None = None,
    *,
    sinks: str | Sequence[str | SinkKind] = (),
) -> list[Source]:
    """Writes `<stem>_ids.png` and `<stem>_overlay.png` of pictures, `<stem>_overlay.mp4` of videos.

    Returns the sources. Inputs are pictures, videos, folders (the pictures and videos right in them, hidden files and
    our own results left out), globs, and streams: `-` for the standard input, a camera's number or device, a named
    pipe, an address; and whatever else `SOURCES` knows. `sinks` name what to write instead (see `SINKS`). Raises
    KerbsegError before any work where two results would have one name, DataError at the first file that cannot be read;
    what was finished stays.
    """
    options = options or VideoOptions()
    sources = expand(inputs, options.raw)
    plan = {source: targets_of(source, out, sinks) for source in sources}
    _refuse_clashes(plan)
    with closing(_Steps(predictor, plan, options)) as steps:
        for _ in progress(steps):
            pass
    return sources


def expand(inputs: Sequence[str | Path], raw: RawFrames | None = None) -> list[Source]:
    """The sources that inputs name, each once.

    Raises KerbsegError where there is none, DataError for one that is none.
    """
    if not inputs:
        raise KerbsegError("nothing to predict: name a picture, a folder, a glob, a video or a stream")
    if raw is not None and not any(map(takes_raw, inputs)):
        raise KerbsegError("raw frames come from the standard input (-) or a named pipe, and no input is one")
    return list(dict.fromkeys(source for given in inputs for source in _expanded(given, raw)))


def _expanded(given: str | Path, raw: RawFrames | None) -> Iterator[Source]:
    source = find_source(given, raw)
    if source is not None:
        yield source
        return
    path = Path(given)
    names = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(given), recursive=True))
    inputs = [name for name in sorted(names) if _is_input(name)]
    if not inputs:
        raise DataError(f"{given} is no file, and no folder or glob with pictures or videos in it")
    ours = {name.with_name(f"{name.stem}{kind.ending}") for name in inputs for kind in SINKS.values()}
    yield from (open_source(name, raw) for name in inputs if name not in ours)


def _is_input(path: Path) -> bool:
    return path.suffix.lower() in input_suffixes() and not path.name.startswith(".") and path.is_file()


def _refuse_clashes(plan: Plan) -> None:
    writers: dict[Path, Source] = {}
    inputs = {source.path.resolve() for source in plan if source.path is not None}
    for source, targets in plan.items():
        for target in targets.values():
            result = target.resolve()
            if result in inputs:
                raise KerbsegError(f"the result of {source} would overwrite the input {result}; choose another folder")
            other = writers.setdefault(result, source)
            if not _same(other, source):
                raise KerbsegError(
                    f"{other} and {source} would both write {result.name}; predict them into two folders"
                )


def _same(one: Source, other: Source) -> bool:
    """Whether two inputs are one, perhaps spelled in two ways."""
    if one.path is None or other.path is None:
        return one == other
    return one.path.resolve() == other.path.resolve()


class _Steps:
    """Segments sources as it is iterated: one step a picture, one a frame; a progress bar asks how many there are."""

    def __init__(self, predictor: Segmenter, plan: Plan, options: VideoOptions) -> None:
        self._predictor, self._plan, self._options = predictor, plan, options
        self._video: Generator[None] | None = None

    def __length_hint__(self) -> int:
        counts = [source.count() for source in self._plan]
        return sum(counts) if all(counts) else 0  # of one nobody knows

    def __iter__(self) -> Iterator[None]:
        for source, targets in self._plan.items():
            if source.kind == "picture":
                yield from self._pictures(source, targets)
            else:
                self._video = video_steps(source, self._predictor, targets, self._options)
                yield from self._video

    def _pictures(self, source: Source, targets: Mapping[SinkKind, Path]) -> Iterator[None]:
        confidence = any(kind.confidence for kind in targets)
        with open_sinks(targets, source, self._predictor.labels) as adds:
            for frame in source:
                prediction = self._predictor(frame.picture, channels="rgb", confidence=confidence)
                for add in adds:
                    add(frame, prediction)
        yield

    def close(self) -> None:
        """Finishes the video that is under way: what stopped us may have come while it waited to be asked for more."""
        if self._video is not None:
            self._video.close()


def saving(folder: Path, labels: LabelSet) -> Callable[[Sample, UInt8[np.ndarray, "h w"]], None]:
    """What writes each sample's prediction into a folder, for `evaluate`'s `on_prediction`."""

    def save(sample: Sample, ids: UInt8[np.ndarray, "h w"]) -> None:
        Prediction(ids, labels, picture=sample.image).save(folder / sample.name)

    return save
