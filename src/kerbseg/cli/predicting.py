"""What `kerbseg predict` prints of its results, shows and notes beside them."""

from __future__ import annotations

import sys
import time
import warnings
from array import array
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from rich.cells import cell_len

from kerbseg.bundle_card import versions
from kerbseg.cli.terminal import progress, tell, width, write_json
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.text import counted, redact
from kerbseg.predict import (
    PictureReport,
    Predictor,
    Unfinished,
    VideoOptions,
    VideoReport,
    predict_files,
    write_classes,
)
from kerbseg.predict.classes import check_classes, has_other_classes
from kerbseg.predict.files import checked_folder
from kerbseg.predict.reports import LINE, milliseconds
from kerbseg.predict.sinks import SINKS, SinkKind, saved, usual
from kerbseg.predict.viewer import open_file

FOLDER = "predictions"  # of results, where none is named
SHOWN = tuple(f"_{word}{suffix}" for word in ("overlay", "side", "color", "palette") for suffix in (".png", ".mp4", ""))
"""Endings of what `--show` can open, the first that is saved; of a video's pictures their folder."""


def results_folder(out: Path | None, predictor: Predictor) -> Path:
    """Where the results go: the folder that was named, or `predictions` here, with a number where others lie there.

    Raises KerbsegError where results of other classes lie in the one that was named.
    """
    if out is None:
        numbered = (Path(FOLDER if number == 1 else f"{FOLDER}{number}") for number in count(1))
        out = next(folder for folder in numbered if not has_other_classes(folder, predictor.labels))
    check_classes(checked_folder(out), predictor.labels)
    return out


def kinds_to_save(save: str | None, sink: Sequence[str], confidence: bool = False) -> list[SinkKind] | list[str] | None:
    """What is written, by the words of `--save` or of the older `--sink`; None for the usual.

    With `confidence`, that is written too.
    """
    if confidence:
        others = usual() if save is None and not sink else kinds_to_save(save, sink) or []
        return [SINKS[each] if isinstance(each, str) else each for each in others] + [SINKS["confidence"]]
    if sink:
        if save is not None:
            raise KerbsegError("--sink is the older name of --save; give one of them")
        warnings.warn(
            KerbsegWarning(
                f"--sink is called --save now: --save {','.join(sink)} (of a video, overlay is one video there, and"
                " frames are its pictures)"
            ),
            stacklevel=2,
        )
        return list(sink)
    if save is None:
        return None
    words = [word.strip() for word in save.split(",") if word.strip()]
    kinds = saved(words)
    if not kinds:
        raise KerbsegError("--save names nothing to write; leave it out, or name results such as ids,overlay")
    return kinds


class Results:
    """Takes what came of each input: prints its line, writes `classes.json` at the first, opens the first."""

    def __init__(self, predictor: Predictor, out: Path, show: bool, keep: bool) -> None:
        self._predictor, self._out, self._show, self._keep = predictor, out, show, keep
        self._name_columns = 0
        self._noted = False
        self._since = time.monotonic()  # when the last input was finished
        self._ms, self._elapsed_s = array("d"), 0.0  # of pictures
        self._pictures: list[dict[str, Any]] = []
        self._videos: list[VideoReport] = []

    def picture(self, report: PictureReport) -> None:
        """Takes a picture's."""
        self._ms.append(report.ms)
        self._elapsed_s += self._lap()
        if self._keep:
            self._pictures.append(report.to_dict())
        self._note(report.targets)
        self._name_columns = max(self._name_columns, cell_len(report.short_name))
        tell(report.line(min(LINE, width()), self._name_columns))

    def video(self, report: VideoReport) -> None:
        """Takes a video's, of one that ended early too."""
        self._lap()
        self._videos.append(report)
        if report.frames:
            self._note(report.targets)
        tell(report)

    def totals(self) -> None:
        """Prints how many inputs there were, how long they took, and where the results are."""
        totals = []
        if self._ms:
            pictures, rate = counted(len(self._ms), "picture"), len(self._ms) / self._elapsed_s
            with_files = f"{rate:.1f} a second with reading and writing"
            totals.append(f"{pictures}, median {milliseconds(median(self._ms))}, {with_files}")
        if self._videos:
            totals.append(counted(len(self._videos), "video"))
        if totals:
            tell(f"{'; '.join(totals)}; results in {self._out}")

    def to_dict(self, failed: Mapping[str, KerbsegError]) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "pictures": self._pictures,
            "videos": [video.to_dict() for video in self._videos],
            "failed": {redact(given): str(error) for given, error in failed.items()},
            "protocol": self._protocol(),
        }

    def _protocol(self) -> dict[str, Any]:
        engine = self._predictor.runtime
        made: dict[str, Any] = {"model": engine.card.model, "runtime": engine.name, "precision": engine.precision}
        made["temperature"] = engine.card.temperature  # null: of confidence as the network has it
        if self._predictor.unknown is not None:
            made |= {"unknown": self._predictor.unknown}
        if self._predictor.measure != "probability":
            made |= {"measure": self._predictor.measure}
        return {**made, "versions": versions()}

    def _lap(self) -> float:
        since, self._since = self._since, time.monotonic()
        return self._since - since

    def _note(self, targets: Sequence[Path]) -> None:
        """Of the first result: what its ids mean, and a look at it."""
        if self._noted:
            return
        self._noted = True
        write_classes(self._out, self._predictor.labels, self._protocol())
        if self._show:
            try:
                open_file(_to_show(targets))
            except KerbsegError as error:
                warnings.warn(KerbsegWarning(str(error)), stacklevel=2)


def _to_show(targets: Sequence[Path]) -> Path:
    for ending in SHOWN:
        for path in targets:
            if path.name.endswith(ending):
                return path
    raise KerbsegError("nothing that can be looked at was written; add overlay to --save")


def predict_and_tell(
    predictor: Predictor,
    inputs: Sequence[str],
    out: Path,
    results: Results,
    options: VideoOptions,
    json: Path | None,
    **more: Any,
) -> None:
    """Predicts the inputs as `predict_files` does, and says what came of them, whatever ends it."""
    failed: Mapping[str, KerbsegError] = {}
    try:
        predict_files(predictor, inputs, out, progress, options, on_picture=results.picture, **more)
    except Unfinished as error:
        failed = error.failures
        unfinished = error
    finally:  # Ctrl-C is how a camera's pictures end
        if json is not None:
            write_json(json, results.to_dict(failed))
        results.totals()
    if failed:
        print(f"kerbseg: {unfinished}", file=sys.stderr)
        sys.exit(1)
