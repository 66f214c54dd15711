"""PNG files: one of a picture, of a video one for each frame in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.sources.frame import Frame, Source

Draw = Callable[[Prediction], Image.Image]
Write = Callable[[Frame, Prediction], None]


@contextmanager
def ids_png(target: Path, source: Source, labels: LabelSet) -> Iterator[Write]:
    """Train ids, uint8."""
    yield _writer(target, source, lambda prediction: Image.fromarray(prediction.ids))


@contextmanager
def overlay_png(target: Path, source: Source, labels: LabelSet) -> Iterator[Write]:
    """The picture under its classes' colors, with a legend."""
    yield _writer(target, source, Prediction.overlay)


@contextmanager
def confidence_png(target: Path, source: Source, labels: LabelSet) -> Iterator[Write]:
    """The probability of each pixel's class, gray: 0 is none, 255 is certain."""
    yield _writer(target, source, _confidence)


def _confidence(prediction: Prediction) -> Image.Image:
    assert prediction.confidence is not None, "this kind of sink asks for it"
    return Image.fromarray((prediction.confidence * 255).round().astype(np.uint8))


def _writer(target: Path, source: Source, draw: Draw) -> Write:
    def write(frame: Frame, prediction: Prediction) -> None:
        path = target / f"{frame.index:06}.png" if source.kind == "video" else target
        with atomic_write(path) as temporary:
            draw(prediction).save(temporary)

    return write
