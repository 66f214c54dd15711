"""Where predictions go: the one table of what predict writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import ENDINGS, Prediction
from kerbseg.predict.sinks.json import shares_json
from kerbseg.predict.sinks.mp4 import overlay_mp4
from kerbseg.predict.sinks.pictures import confidence_png, ids_png, overlay_png
from kerbseg.predict.sources.frame import Frame, Kind, Source

__all__ = ["SINKS", "Add", "SinkKind", "open_sinks", "targets_of"]

Add = Callable[[Frame, Prediction], object]
"""Takes a frame and what was predicted of it, in the order of time, from one thread."""


@dataclass(frozen=True)
class SinkKind:
    """One kind of result.

    `open(target, source, labels)` is entered for each source, gives what takes its frames, and makes the result whole
    where it is left without an error; what it has of a source that failed it leaves as if nothing had been.
    """

    ending: str  # of its file, behind the source's name
    open: Callable[[Path, Source, LabelSet], AbstractContextManager[Add]]
    takes: tuple[Kind, ...] = ("picture", "video")
    unasked: tuple[Kind, ...] = ()  # of what it is written without being asked for
    file_per_frame: bool = False  # so that of a video its target is a folder
    blends: bool = False  # wants `Prediction.blended`, which is drawn while other frames are segmented and written
    confidence: bool = False  # wants `Prediction.confidence`

    def target(self, source: Source, out: Path) -> Path:
        """The file, or of a video perhaps the folder, that holds the result."""
        path = out / f"{source.name}{self.ending}"
        return path.with_suffix("") if self.file_per_frame and source.kind == "video" else path


IDS, OVERLAY = ENDINGS

SINKS: dict[str, SinkKind] = {
    "ids": SinkKind(IDS, ids_png, unasked=("picture",), file_per_frame=True),
    "overlay": SinkKind(OVERLAY, overlay_png, unasked=("picture",), file_per_frame=True),
    "mp4": SinkKind("_overlay.mp4", overlay_mp4, takes=("video",), unasked=("video",), blends=True),
    "json": SinkKind("_shares.json", shares_json),
    "confidence": SinkKind("_confidence.png", confidence_png, file_per_frame=True, confidence=True),
}
"""Results by name. A new kind is one entry."""


def targets_of(
    source: Source, out: str | Path, names: str | Sequence[str | SinkKind] | None = None
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
    usual = [kind for kind in SINKS.values() if source.kind in kind.unasked]
    taking = [kind for kind in kinds if source.kind in kind.takes] if kinds else usual
    if not taking:
        raise KerbsegError(
            f"{source} is a {source.kind}; {_listed(names)} cannot be written of it, {_others(source)} can"
        )
    return {kind: kind.target(source, Path(out)) for kind in taking}


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
    return _listed(name for name, kind in SINKS.items() if source.kind in kind.takes)


def _listed(names: Iterable[str | SinkKind]) -> str:
    return ", ".join(name if isinstance(name, str) else name.ending for name in names)
