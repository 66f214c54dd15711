"""Videos and streams: decoded, segmented, drawn and written at the same time, in constant memory, at the same times."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGINT
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import counted
from kerbseg.predict.draw import border_painter, counts
from kerbseg.predict.drawings import Style
from kerbseg.predict.interrupts import ending_once, held
from kerbseg.predict.live import Newest, check_live, checked_stride, every_nth
from kerbseg.predict.pipeline import MAX_IN_FLIGHT, Stage, ThreadedPipeline
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.reports import VideoReport, listed_paths
from kerbseg.predict.shares import shares_of
from kerbseg.predict.sinks import Add, SinkKind, open_sinks, targets_of
from kerbseg.predict.sinks.full import SinkFull
from kerbseg.predict.sources import Frame, RawFrames, Source, as_source
from kerbseg.predict.sources.arrays import Channels
from kerbseg.predict.temporal.flicker import FlickerMeter
from kerbseg.predict.temporal.vote import checked_memory

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The system's errors where there is no room for a file."""

LARGE = 48_000_000
"""Bytes of a frame that counts as more than one: four times those of 4K."""

Work = tuple[Frame, Prediction]  # what goes from stage to stage


class Segmenter(Protocol):
    """What a video needs of a predictor."""

    @property
    def labels(self) -> LabelSet:
        """The classes of its ids."""

    def __call__(
        self, picture: UInt8[np.ndarray, "h w 3"], /, *, channels: Channels, confidence: bool
    ) -> Prediction: ...

    def with_vote(self, memory: float) -> Segmenter:
        """One for the frames of one video, whose ids are a vote over time."""


@runtime_checkable
class SharedSegmenter(Protocol):
    """A segmenter that can take several frames at the same time."""

    def for_frames(self) -> tuple[Segmenter, int]:
        """One that does, and how many; it may be this one, and one."""


def checked_segmenter(predictor: Any) -> None:
    """Raises InputError for what is no predictor, such as a model's name."""
    if not callable(predictor) or not hasattr(predictor, "labels"):
        raise InputError(
            f"a video needs a predictor, such as kerbseg.Predictor(MODEL), found {type(predictor).__name__}; the source"
            " comes first, the predictor second"
        )


def _unreported(report: VideoReport) -> None:
    pass


@dataclass(frozen=True)
class VideoOptions:
    """How videos are segmented.

    `smooth` is the memory of a vote over time (see `TemporalVote`), `flicker` measures how much the classes change
    between aligned frames, `raw` says what the standard input's frames are where they come without a container, and
    `on_report` is called with what came of each video, of one that ended early too. With a `stride` of N each N-th
    frame is looked at; with `newest`, of a live stream the newest frame each time; those that came meanwhile are
    dropped.
    """

    smooth: float | None = None
    flicker: bool = False
    raw: RawFrames | None = None
    on_report: Callable[[VideoReport], object] = _unreported
    stride: int = 1
    newest: bool = False

    def __post_init__(self) -> None:
        checked_stride(self.stride)
        if self.smooth is not None:
            checked_memory(self.smooth)


def video(
    source: str | Path | int | Source | Iterable[Frame],
    predictor: Segmenter,
    *,
    smooth: float | None = None,
    confidence: bool = False,
    stride: int = 1,
    newest: bool = False,
) -> Iterator[tuple[Frame, Prediction]]:
    """Each frame of a video with what is predicted of it: `for frame, prediction in video("drive.mp4", predictor)`.

    The source is a file, a camera's number, `-`, a pipe, an address, or any iterable of `Frame`. The next
    frames are decoded and segmented while the caller looks at this one. `smooth` is the memory of a vote over time (see
    `TemporalVote`); with a `stride` of N each N-th frame is looked at, and with `newest` the newest one of a live
    stream each time. Raises DataError after the last whole frame of a video that is damaged.
    """
    opened, options = as_source(source), VideoOptions(smooth, stride=stride, newest=newest)
    checked_segmenter(predictor)
    _check_vote(smooth, confidence)
    if newest:
        check_live(opened)
    return _segmented(opened, predictor, options, confidence)


def _segmented(source: Source, predictor: Segmenter, options: VideoOptions, confidence: bool) -> Iterator[Work]:
    with segmenting(predictor, options.smooth, confidence, alone=options.newest) as steps:
        work = ThreadedPipeline(_taken(source, options), *steps, max_in_flight=_most(options), cost=_cost)
        try:
            yield from work
        finally:  # the caller may leave the loop
            work.stop()


def segment_video(
    source: str | Path | int | Source | Iterable[Frame],
    predictor: Segmenter,
    out: str | Path,
    options: VideoOptions | None = None,
    *,
    sinks: str | Sequence[str | SinkKind] | None = None,
    style: Style | None = None,
) -> VideoReport:
    """Writes what is predicted of a video into the folder `out`: `<stem>_overlay.mp4`, or what `sinks` name.

    `style` says how overlays look.

    Whatever ends it (the end, damage, Ctrl-C, a full disk), the frames until then become files that can be used.
    Raises DataError for a video that is damaged or none, KerbsegError where a file cannot be written.
    """
    opened, options = as_source(source, options.raw if options else None), options or VideoOptions()
    checked_segmenter(predictor)
    reports: list[VideoReport] = []

    def keep(report: VideoReport) -> None:
        reports.append(report)
        options.on_report(report)

    targets = targets_of(opened, out, sinks, style)
    with ending_once(SIGINT):
        for _ in video_steps(opened, predictor, targets, replace(options, on_report=keep)):
            pass
    return reports[0]


def video_steps(
    source: Source, predictor: Segmenter, targets: Mapping[SinkKind, Path], options: VideoOptions
) -> Generator[None]:
    """Segments and writes a video as it is iterated, one step a frame.

    Whatever ends it (the end, damage, Ctrl-C, `close`, a full disk), the frames until then become files that can be
    used. Raises DataError for a stream that is damaged or none, KerbsegError where a file cannot be written.
    """
    if options.newest:
        check_live(source)
    meter = FlickerMeter() if options.flicker else None
    counter, taken = _Counter(), _taken(source, options)
    started, ending, unwritten = time.monotonic(), None, None
    with held():
        try:
            with (
                open_sinks(targets, source, predictor.labels) as adds,
                stages(predictor, list(targets), adds, options.smooth, meter, options.newest) as steps,
            ):
                work = ThreadedPipeline(taken, *steps, counter, max_in_flight=_most(options), cost=_cost)
                try:
                    for _ in work:
                        yield
                    if not counter.frames:
                        raise DataError(f"{source} gave no frame")
                except BaseException as error:  # noqa: BLE001 # raised again below, when the files are whole
                    ending = error
                finally:
                    work.finish()
                if ending is not None and not counter.frames:
                    raise ending
        except (KerbsegError, OSError) as error:
            if not counter.frames:
                raise _told(error, source) from ending
            unwritten = error  # where the files were to become whole
        frames = min([counter.frames, *(each.frames for each in (ending, unwritten) if isinstance(each, SinkFull))])
        options.on_report(
            VideoReport(
                source=str(source),
                targets=tuple(targets.values()),
                frames=frames,
                elapsed_s=time.monotonic() - started,
                whole=ending is None and unwritten is None,
                smooth=options.smooth,
                flicker=meter.result if meter else None,
                size=counter.size,
                shares=shares_of(counter.pixels, predictor.labels),
                stride=options.stride,
                received=taken.received if isinstance(taken, Newest) else None,
            )
        )
        if ending is not None or unwritten is not None:
            kept = f"what was finished is kept: {counted(frames, 'frame')} in {listed_paths(targets.values())}"
            raise _with_rest(ending, unwritten, source, kept)


def _taken(source: Source, options: VideoOptions) -> Iterable[Frame]:
    """The frames of a source that are looked at."""
    frames = source if options.stride == 1 else every_nth(source, options.stride)
    return Newest(frames) if options.newest else frames


def _most(options: VideoOptions) -> int:
    """Frames in flight: of the newest one at a time, since one that waits is not the newest any more."""
    return 1 if options.newest else MAX_IN_FLIGHT


def _with_rest(ending: BaseException | None, unwritten: Exception | None, source: Source, kept: str) -> BaseException:
    """What ended a video, or kept its files from becoming whole, with what is left of it."""
    errors = [each for each in (ending, unwritten) if isinstance(each, KerbsegError | OSError)]
    if not errors:
        assert ending is not None
        return ending
    if unwritten is None or isinstance(unwritten, SinkFull):
        told = "; ".join([*(str(_told(each, source)) for each in errors), kept])
    else:
        told = "; ".join(str(_told(each, source)) for each in errors)
    return next((kind for kind in (DataError, InputError) if isinstance(errors[0], kind)), KerbsegError)(told)


def _told(error: KerbsegError | OSError, source: Source) -> KerbsegError:
    """The error; the system's own, of a source or sink that a caller made, in one line."""
    if isinstance(error, KerbsegError):
        return error
    remedy = "; free space or choose another place" if error.errno in FULL else ""
    return KerbsegError(f"the prediction of {source} ended: {error.strerror or error}{remedy}")


@contextmanager
def stages(
    predictor: Segmenter,
    kinds: Sequence[SinkKind],
    adds: Sequence[Add],
    smooth: float | None = None,
    meter: FlickerMeter | None = None,
    alone: bool = False,
) -> Iterator[list[Stage]]:
    """What segments a frame, measures, draws and writes it, as a pipeline's stages."""
    confidence = any(kind.confidence for kind in kinds)
    blends = [_in_passing(_blending(alpha)) for alpha in {kind.alpha for kind in kinds if kind.blends}]
    with segmenting(predictor, smooth, confidence, blends, alone) as steps:
        if meter is not None:
            steps.append(_in_passing(_measuring(meter)))
        yield [*steps, *map(_in_passing, adds)]


@contextmanager
def segmenting(
    predictor: Segmenter, smooth: float | None, confidence: bool, more: Sequence[Stage] = (), alone: bool = False
) -> Iterator[list[Stage]]:
    """The stages that segment frames and do `more` with each; where the predictor can, several frames at the same time.

    Frames are given on in their order. Of several, each is in the hands of one thread from the first stage to the last.

    A vote over time remembers, so it is of one video alone and takes one frame after another. `alone` does too: a frame
    has all threads, and is there sooner.
    """
    _check_vote(smooth, confidence)
    calls = 1
    if smooth is not None:
        predictor = predictor.with_vote(smooth)
    elif not alone and isinstance(predictor, SharedSegmenter):
        predictor, calls = predictor.for_frames()
    segment = _segment(predictor, confidence)
    if calls == 1:
        yield [segment, *more]
        return

    def work(frame: Frame) -> Work:
        item = segment(frame)
        for stage in more:
            item = stage(item)
        return item

    workers = ThreadPoolExecutor(calls)
    try:
        yield [lambda frame: workers.submit(work, frame), lambda future: future.result()]
    finally:
        workers.shutdown(wait=False, cancel_futures=True)  # whoever waits for frames has waited for the pipeline


def _check_vote(smooth: float | None, confidence: bool) -> None:
    if smooth is None:
        return
    checked_memory(smooth)
    if confidence:
        raise InputError("a vote over time has no confidence; leave either smooth or confidence out")


def _segment(predictor: Segmenter, confidence: bool) -> Callable[[Frame], Work]:
    def segment(frame: Frame) -> Work:
        if not isinstance(frame, Frame):
            raise InputError(
                f"a video is an iterable of kerbseg.predict.Frame, found {type(frame).__name__}; pictures that are no"
                " video go to the predictor: predictor(picture)"
            )
        # a frame is RGB, whatever order the predictor's other pictures have
        return frame, predictor(frame.picture, channels="rgb", confidence=confidence)

    return segment


def _in_passing(look: Add) -> Callable[[Work], Work]:
    """A stage that looks at what goes through and hands it on."""

    def stage(work: Work) -> Work:
        look(*work)
        return work

    return stage


def _measuring(meter: FlickerMeter) -> Add:
    def measure(frame: Frame, prediction: Prediction) -> None:
        region = prediction.region or ...
        meter.add(frame.picture[region], prediction.ids[region])

    return measure


def _blending(alpha: float) -> Add:
    paint = border_painter()
    return lambda frame, prediction: prediction.blend(alpha, paint)


def _cost(frame: Any) -> int:
    """How many frames of usual size a frame counts for, so that a few of the largest fill no memory."""
    return 1 + frame.picture.size // LARGE if isinstance(frame, Frame) else 1


class _Counter:
    """The last stage: counts what has gone through all others, and keeps none of it."""

    frames = 0
    size: tuple[int, int] | None = None  # of the first

    def __init__(self) -> None:
        self.pixels = np.zeros(256, np.int64)  # of each id

    def __call__(self, work: Work) -> None:
        prediction = work[1]
        ids = prediction.ids
        self.pixels += counts(ids[prediction.region or ...])
        self.size = self.size or (ids.shape[0], ids.shape[1])
        self.frames += 1
