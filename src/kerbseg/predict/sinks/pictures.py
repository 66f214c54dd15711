"""PNG files: one of a picture, of a video one for each frame in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.drawings import DRAWINGS, Style
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.frame import Frame, Source

Write = Callable[[Frame, Prediction], None]


def png(word: str) -> Callable[[Path, Source, LabelSet, Style], AbstractContextManager[Write]]:
    """What opens a sink of that drawing."""
    draw = DRAWINGS[word].draw

    @contextmanager
    def open(target: Path, source: Source, labels: LabelSet, style: Style) -> Iterator[Write]:
        def write(frame: Frame, prediction: Prediction) -> None:
            path = target / f"{frame.index:06}.png" if source.kind == "video" else target
            with atomic_write(path) as temporary:
                draw(prediction, style).save(temporary)

        yield write

    return open
