"""A robot's recording in, a recording with what is predicted out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGINT
from typing import Any

from kerbseg.core.errors import InputError, KerbsegError, did_you_mean
from kerbseg.core.files import remove_leftovers
from kerbseg.predict.drawings import Style
from kerbseg.predict.interrupts import ending_once
from kerbseg.predict.sinks import SinkKind
from kerbseg.predict.sinks.bag import WORDS, BagContents, labeled_bag
from kerbseg.predict.sources import BagSource, open_source
from kerbseg.predict.videos import Segmenter, VideoOptions, checked_segmenter, video_steps
from kerbseg.robots.bag_writer import SUFFIX, check_new_folder
from kerbseg.robots.rmw import checked_topic

BAG = "bag"
"""The word of `--save` that makes the folder OUT a bag; an OUT that ends with .mcap is one without it."""


@dataclass(frozen=True)
class BagJob:
    """A bag to write: where, what goes into it, and of which topics."""

    out: Path
    contents: BagContents = field(default_factory=BagContents)
    topics: tuple[str, ...] = ()


def bag_job(
    out: Path | None,
    words: Sequence[str] | None,
    topics: Sequence[str] = (),
    only: bool = False,
    prefix: str | None = None,
    smooth: bool = False,
) -> BagJob | None:
    """The bag that `-o OUT --save WORDS` asks for; None where they ask for other files.

    Raises KerbsegError for a word that no bag can hold, and for options that belong to bags alone.
    """
    named = out is not None and out.suffix.lower() == SUFFIX
    if out is not None and out.suffix.lower() in (".bag", ".db3") and not out.is_dir():
        raise KerbsegError(f"bags are written as MCAP, not as {out.suffix}; name {out.with_suffix(SUFFIX).name}")
    if prefix is not None:
        prefix = checked_topic(prefix.rstrip("/"), "--prefix")
    if not named and BAG not in (words or ()):
        if only or prefix is not None:
            raise KerbsegError("--only and --prefix belong to a bag that is written; name one: -o out.mcap")
        return None
    if out is None:
        raise KerbsegError("--save bag makes a bag of the folder OUT; name it: -o drive_labeled")
    wanted = tuple(dict.fromkeys(word for word in words or () if word != BAG))
    for word in wanted:
        if word not in WORDS:
            raise KerbsegError(f"a bag holds no {word!r}; {did_you_mean(word, WORDS)}")
    usual = ("ids",) if smooth else ("ids", "confidence")  # a vote over time has no confidence
    return BagJob(out, BagContents(wanted or usual, not only, prefix), tuple(topics))


def predict_bag(
    predictor: Segmenter,
    bag: str | Path,
    job: BagJob,
    progress: Callable[[Any], Iterable[Any]] = iter,
    options: VideoOptions | None = None,
    style: Style | None = None,
) -> None:
    """Writes a bag with what is predicted of the pictures of a bag beside all that it holds.

    For the topic /cam/image_raw there are /cam/segmentation/mask, .../confidence and .../label_info, and where it is
    asked for .../overlay/compressed, with the stamps and coordinate frames of the pictures. An `out` that ends with
    .mcap becomes such a file, another a rosbag2 folder. What ends it early (Ctrl-C, a bag that is cut off) leaves a
    whole bag of what was recorded until then.

    Raises DataError for what is no bag, for topics and encodings that are not there or not read, and for a bag that is
    damaged; KerbsegError where `out` cannot be written.
    """
    checked_segmenter(predictor)
    options, style = options or VideoOptions(), style or Style()
    source = open_source(bag, topics=job.topics)
    if not isinstance(source, BagSource):
        raise InputError(f"{bag} is no bag, so none can be made of it; name a folder for the results: -o out")
    assert source.path is not None
    if len(source.topics) > 1 and (options.smooth is not None or options.flicker):
        raise InputError("--smooth and --flicker follow one camera; name one topic at a time")
    if job.out.resolve() in (source.path.resolve(), source.path.resolve().parent):
        raise KerbsegError(f"the result would overwrite the input {source.path}; choose another name")
    if job.out.suffix.lower() != SUFFIX:
        check_new_folder(job.out)
    words = job.contents.words
    kind = SinkKind(
        SUFFIX,
        partial(labeled_bag, contents=job.contents, alpha=style.alpha),
        takes=("video",),
        blends="overlay" in words,
        confidence="confidence" in words,
        alpha=style.alpha,
    )
    remove_leftovers(job.out.parent)
    with ending_once(SIGINT), closing(video_steps(source, predictor, {kind: job.out}, options)) as steps:
        for _ in progress(_Counted(steps, source.count())):
            pass


class _Counted:
    """Steps that say how many they are, for a progress bar."""

    def __init__(self, steps: Iterable[None], count: int) -> None:
        self._steps, self._count = steps, count

    def __length_hint__(self) -> int:
        return self._count

    def __iter__(self) -> Any:
        return iter(self._steps)
