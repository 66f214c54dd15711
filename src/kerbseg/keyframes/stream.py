"""Keyframes of any source as it is read: segmented, scored and chosen, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import InputError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.keyframes.scores import FrameScores, Scorer
from kerbseg.keyframes.selection import Keyframe, Options, Selector
from kerbseg.predict.sources import Frame, Source
from kerbseg.predict.videos import Segmenter, video


@dataclass(frozen=True, eq=False)
class Kept:
    """What is kept of a frame that may become a keyframe."""

    picture: UInt8[np.ndarray, "h w 3"]  # RGB
    ids: UInt8[np.ndarray, "h w"]


def target_ids(names: Sequence[str], labels: LabelSet) -> tuple[int, ...]:
    """The ids of classes by their names. Raises InputError for one that the model lacks, and for none at all."""
    if not names:
        raise InputError(f"no target class; name what keyframes are to show, of: {', '.join(labels.classes)}")
    for name in names:
        if name not in labels.classes:
            raise InputError(f"the model knows no class {name!r}; {did_you_mean(name, labels.classes)}")
    return tuple(dict.fromkeys(labels.classes.index(name) for name in names))


def scored(
    source: str | Path | int | Source | Iterable[Frame], predictor: Segmenter, target: Sequence[str]
) -> Generator[tuple[FrameScores, Kept]]:
    """The scores of each frame, with its picture and class ids.

    Raises InputError for an unknown class, DataError after the last whole frame of a video that is damaged.
    """
    scorer = Scorer(target_ids(target, predictor.labels))
    return (
        (scorer.add(frame.picture, prediction.ids, frame.time_ns), Kept(frame.picture, prediction.ids))
        for frame, prediction in video(source, predictor)
    )


def keyframes(
    source: str | Path | int | Source | Iterable[Frame],
    predictor: Segmenter,
    target: Sequence[str],
    options: Options | None = None,
    due: Callable[[FrameScores], bool] | None = None,
) -> Iterator[Keyframe]:
    """Each keyframe as its window closes; its `kept` has the picture and the class ids.

    `for keyframe in keyframes("drive.mp4", predictor, ["pedestrian"])`. The source is a file, a camera's number, `-`,
    a pipe, an address, any iterable of `Frame`, or `open_sequence(folder).source`.
    """
    selector = Selector(options, due)
    for scores, kept in scored(source, predictor, target):
        yield from selector.add(scores, kept)
    yield from selector.finish()
