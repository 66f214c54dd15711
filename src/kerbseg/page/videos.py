"""A video as a page shows it: segmented whole, with the classes that are switched on painted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.page.looking import called_by_name
from kerbseg.page.views import Painting
from kerbseg.predict.drawings import Style
from kerbseg.predict.prediction import Prediction
from kerbseg.predict.predictor import Predictor
from kerbseg.predict.reports import VideoReport
from kerbseg.predict.sinks import SinkKind
from kerbseg.predict.sinks.mp4 import mp4
from kerbseg.predict.sources import open_source
from kerbseg.predict.videos import VideoOptions, video_steps

ENDING = "_overlay.mp4"


def segment(
    path: Path,
    out: Path,
    predictor: Predictor,
    painting: Painting,
    lookup: UInt8[np.ndarray, " 256"],
    on_frame: Callable[[int, int], object],
    stop: threading.Event,
) -> tuple[VideoReport, str]:
    """Writes the overlay of a video into the folder `out`; gives its report, and what is said of one that ended early.

    `lookup` gives the page's id for each of the model's; `on_frame` is called with the number of frames that are
    done, and of all, which is 0 where nobody knows; `stop` ends it early. Raises KerbsegError where no frame is whole.
    """
    reports: list[VideoReport] = []

    def draw(prediction: Prediction, alpha: float) -> UInt8[np.ndarray, "h w 3"]:
        assert prediction.picture is not None, "a predictor keeps it"
        return np.asarray(painting.paint(prediction.picture, lookup[prediction.ids], names=False))

    with called_by_name(path):
        source = open_source(path)
        if source.kind != "video":
            raise DataError(f"{path} is a single picture; give it under Pictures")
        kind = SinkKind(ENDING, mp4(draw), takes=("video",), styled=True).of(source, Style())
        assert kind is not None, "it takes videos"
        target, total = out / f"{source.name}{ENDING}", source.count()
        steps = video_steps(source, predictor, {kind: target}, VideoOptions(on_report=reports.append))
        try:
            with called_by_name(path, target):
                for done, _ in enumerate(steps, 1):
                    on_frame(done, total)
                    if stop.is_set():
                        break
                steps.close()
        except KerbsegError as error:
            if not reports:
                raise
            return reports[0], str(error)
    return reports[0], "stopped" if stop.is_set() else ""
