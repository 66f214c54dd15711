"""Where predictions go: the one table of what predict writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.predict.drawings import DRAWINGS, Style
from kerbseg.predict.prediction import SHARES, Prediction
from kerbseg.predict.sinks.json import shares_json
from kerbseg.predict.sinks.mp4 import Draw, mp4
from kerbseg.predict.sinks.pictures import png
from kerbseg.predict.sources.frame import Frame, Kind, Source

__all__ = [
    "SINKS",
    "Add",
    "SinkKind",
    "endings_of_results",
    "open_sinks",
    "saved",
    "saved_words",
    "targets_of",
    "usual",
]

Add = Callable[[Frame, Prediction], object]
"""Takes a frame and what was predicted of it, in the order of time, from one thread."""


@dataclass(frozen=True)
class SinkKind:
    """One kind of result.

    `open(target, source, labels)` is entered for each source, gives what takes its frames, and makes the result whole
    where it is left without an error; what it has of a source that failed it leaves as if nothing had been.
    """

    ending: str  # of its file, behind the source's name
    open: Callable[..., AbstractContextManager[Add]]
    takes: tuple[Kind, ...] = ("picture", "video")
    unasked: tuple[Kind, ...] = ()  # of what it is written without being asked for
    file_per_frame: bool = False  # so that of a video its target is a folder
    blends: bool = False  # wants `Prediction.blend(alpha)`, which is drawn while other frames are segmented and written
    confidence: bool = False  # wants `Prediction.confidence`
    styled: bool = False  # its `open` takes a Style, too
    alpha: float = 0.5  # the weight of the colors in what it blends
    of_video: SinkKind | None = None  # what is written of a video in its place

    def target(self, source: Source, out: Path) -> Path:
        """The file, or of a video perhaps the folder, that holds the result."""
        path = out / f"{source.name}{self.ending}"
        return path.with_suffix("") if self.file_per_frame and source.kind == "video" else path

    def of(self, source: Source, style: Style) -> SinkKind | None:
        """The kind that writes this of a source, in that style; None where it cannot be written of it."""
        kind = self.of_video if self.of_video is not None and source.kind == "video" else self
        if source.kind not in kind.takes:
            return None
        return replace(kind, open=partial(kind.open, style=style), alpha=style.alpha) if kind.styled else kind


def _png(word: str, **more: Any) -> SinkKind:
    return SinkKind(DRAWINGS[word].ending, png(word), styled=True, file_per_frame=True, **more)


def _mp4(ending: str, draw: Draw, **more: Any) -> SinkKind:
    return SinkKind(ending, mp4(draw), takes=("video",), styled=True, **more)


SINKS: dict[str, SinkKind] = {
    "ids": _png("ids", unasked=("picture",)),
    "palette": _png("palette"),
    "color": _png("color", of_video=_mp4("_color.mp4", lambda prediction, alpha: np.asarray(prediction.color()))),
    "overlay": _png("overlay", unasked=("picture",)),
    "side": _png("side", of_video=_mp4("_side.mp4", Prediction.beside, blends=True)),
    "mp4": _mp4("_overlay.mp4", Prediction.blend, unasked=("video",), blends=True),
    "json": SinkKind(SHARES, shares_json),
    "confidence": _png("confidence", confidence=True),
}
"""Results by name. A new kind is one entry."""

FRAMES = "frames"
"""The word of `--save` for what is called overlay here: of a video, a picture for each frame."""


def saved_words() -> list[str]:
    """What `--save` takes: the names in `SINKS`, in which `overlay` of a video is `mp4`."""
    return [*(name for name in SINKS if name != "mp4"), FRAMES]


def saved(words: Iterable[str]) -> list[SinkKind]:
    """The kinds that `--save` names. Raises KerbsegError for a word that does not exist."""
    kinds = []
    for word in words:
        if word not in (*SINKS, FRAMES):
            raise KerbsegError(f"nothing is saved as {word!r}; {did_you_mean(word, saved_words())}")
        kind = SINKS["overlay" if word == FRAMES else word]
        kinds.append(replace(kind, of_video=SINKS["mp4"]) if word == "overlay" else kind)
    return kinds


def usual() -> list[SinkKind]:
    """The kinds that are written without being asked for, each of those inputs alone."""
    return [replace(kind, takes=kind.unasked) for kind in SINKS.values() if kind.unasked]


def targets_of(
    source: Source, out: str | Path, names: str | Sequence[str | SinkKind] | None = None, style: Style | None = None
) -> dict[SinkKind, Path]:
    """What is written of a source, and where: by the sinks named that can take it, or by the usual ones.

    Raises KerbsegError for a name that does not exist, and where none can take it.
    """
    if names is not None and not names:
        raise KerbsegError(
            f"sinks is empty, so nothing would be written; leave it out, or choose from: {_listed(SINKS)}"
        )
    names = names or ()
    kinds = [_kind(name) for name in ([names] if isinstance(names, str) else names)]
    asked = kinds or [kind for kind in SINKS.values() if source.kind in kind.unasked]
    taking = [kind for each in asked if (kind := each.of(source, style or Style())) is not None]
    if not taking:
        raise KerbsegError(
            f"{source} is a {source.kind}; {_listed(names)} cannot be written of it, {_others(source)} can"
        )
    by_target = {kind.target(source, Path(out)): kind for kind in taking}  # what is named twice is written once
    return {kind: target for target, kind in by_target.items()}


def endings_of_results() -> list[str]:
    """What the names of results have behind those of their inputs; for folders of frames, too."""
    kinds = [*SINKS.values(), *(kind.of_video for kind in SINKS.values() if kind.of_video is not None)]
    return [kind.ending for kind in kinds] + [Path(f"x{kind.ending}").stem[1:] for kind in kinds if kind.file_per_frame]


@contextmanager
def open_sinks(targets: Mapping[SinkKind, Path], source: Source, labels: LabelSet) -> Iterator[list[Add]]:
    """What takes the frames of a source for each target.

    At the end each is made whole by itself, whatever becomes of another; where the source failed, none is.
    """
    with ExitStack() as failing:
        opened, adds = [], []
        for kind, target in targets.items():
            sink = failing.enter_context(ExitStack())
            adds.append(sink.enter_context(kind.open(target, source, labels)))
            opened.append(sink)
        yield adds
        failing.pop_all()
        _finish(opened)


def _finish(opened: Sequence[ExitStack]) -> None:
    """Closes all, the last first; one that cannot be made whole is told when the others are."""
    if opened:
        try:
            opened[-1].close()
        finally:
            _finish(opened[:-1])


def _kind(name: str | SinkKind) -> SinkKind:
    if isinstance(name, SinkKind):
        return name
    if name not in SINKS:
        raise KerbsegError(f"unknown sink {name!r}; {did_you_mean(name, SINKS)}")
    return SINKS[name]


def _others(source: Source) -> str:
    return _listed(name for name, kind in SINKS.items() if kind.of(source, Style()) is not None)


def _listed(names: Iterable[str | SinkKind]) -> str:
    return ", ".join(name if isinstance(name, str) else name.ending for name in names)
