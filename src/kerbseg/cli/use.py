"""`kerbseg evaluate` and `kerbseg predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any, Literal

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_evaluate
from kerbseg.cli.options import DataRoot, Device, Fit, Json, OutOrNothing, Precision, Runtime, Submission, Threads
from kerbseg.cli.terminal import progress, show, tell, write_json
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write
from kerbseg.core.text import redact

if TYPE_CHECKING:
    from kerbseg.core.types import Sample
    from kerbseg.predict import Predictor


@app.command
def evaluate(
    model: str,
    *,
    data: str,
    split: str = "test",
    data_root: DataRoot = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    tta: Literal["none", "flip"] = "none",
    by: Literal["drive"] | None = None,
    limit: int | None = None,
    json: Json = None,
    save: Path | None = None,
    submission: Submission = None,
) -> None:
    """Compute mIoU and per-class IoU on a split, from one confusion matrix over the whole set.

    Example: `kerbseg evaluate run/best.safetensors --data camvid --split test --json figures.json`

    Parameters
    ----------
    model
        Model: a file, a run folder, or the name of shipped weights
    data
        Data set: {data_sets}
    split
        Part of the data set
    tta
        Test-time augmentation; flip: average with the mirrored picture
    by
        Also measure each drive by itself: the pictures whose names begin alike, up to the first `_` or `/`
    limit
        Only the first N pictures
    save
        Folder for the predictions, overlays and the confusion matrix as a picture
    """
    from contextlib import nullcontext

    from kerbseg.data import open_dataset
    from kerbseg.evaluate import UnlabelledError, render_table
    from kerbseg.evaluate import evaluate as measure
    from kerbseg.predict.draw import confusion_picture
    from kerbseg.predict.files import saving
    from kerbseg.predict.submission import submission as open_submission
    from kerbseg.runtime import open_runtime

    opened = open_runtime(model, engine=runtime, device=device, threads=threads, precision=precision)
    dataset = open_dataset(data, split, data_root)
    saved = saving(save, dataset.labels) if save is not None else None
    with open_submission(submission, dataset.labels) if submission is not None else nullcontext() as submit:

        def on_prediction(sample: Sample, ids: Any) -> None:
            if saved is not None:
                saved(sample, ids)
            if submit is not None:
                submit(sample.name, ids)

        try:
            report = measure(
                opened, dataset, limit=limit, tta=tta, by=by, fit=fit, on_prediction=on_prediction, progress=progress
            )
        except UnlabelledError:
            if submit is None:
                raise
            report = None
    if submission is not None:
        tell(f"predictions for the server: {submission}")
    if report is None:
        tell(f"split {split!r} of {data!r} has no labels here, so nothing is measured")
        return
    if json is not None:
        write_json(json, report.to_dict())
    if save is not None:
        with atomic_write(save / "confusion.png") as temporary:
            confusion_picture(report.metrics, dataset.labels).save(temporary)
    show(render_table(report))
    after_evaluate(model, data, data_root, dataset)


@app.command
def predict(
    model: str,
    *inputs: str,
    out: OutOrNothing = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    submission: Submission = None,
    smooth: float | None = None,
    flicker: bool = False,
    raw: str | None = None,
    sink: tuple[str, ...] = (),
    recursive: bool = False,
    json: Json = None,
) -> None:
    """Segment pictures, folders, globs, videos and streams.

    Writes STEM_ids.png (train ids) and STEM_overlay.png; of a video STEM_overlay.mp4. A stream is `-` (a video on
    the standard input), a camera (0, /dev/video0), a named pipe or an address; Ctrl-C ends it and keeps the file.
    One of several inputs that cannot be read is left out; the others are segmented, and the status is 1.

    Example: `kerbseg predict run/best.safetensors street.jpg -o out`

    Parameters
    ----------
    model
        Model: a file, a run folder, or the name of shipped weights
    inputs
        Pictures, folders, globs, videos, streams
    out
        Folder of the results
    submission
        Instead of OUT, folder or .zip of predictions for the server of Cityscapes or Minicity
    smooth
        Of videos: steadier classes, by a vote that follows what moves, in which a frame that is n frames old has the
        weight SMOOTH^n (0.5 to 1; 0.7 follows a change after 2 frames, 0.8 after 4, 0.9 after 7)
    flicker
        Of videos: also measure the share of pixels that change class between frames aligned by optical flow
    raw
        HEIGHTxWIDTH@RATE of RGB frames without a container on the standard input, such as 360x480@25
    sink
        What to write instead, can be repeated: {sinks}
    recursive
        Also take what is in the subfolders of folders; results then lie in subfolders of OUT
    """
    from kerbseg.predict.interrupts import FROM_OUTSIDE, ending_once

    if (out is None) == (submission is None):
        raise KerbsegError("predict writes to --out FOLDER or to --submission FOLDER|ZIP; give one of them")
    with ending_once(SIGINT, *FROM_OUTSIDE, last=True):
        from kerbseg.predict import Predictor
        from kerbseg.runtime import open_runtime

        opened = open_runtime(model, engine=runtime, device=device, threads=threads, precision=precision)
        predictor = Predictor(opened, fit=fit)
        if submission is not None:
            from kerbseg.predict.submission import submit_files

            count = submit_files(predictor, inputs, submission, progress, recursive)
            tell(f"{count} prediction(s) for the server: {submission}")
            return
        assert out is not None
        _predict(predictor, inputs, out, smooth, flicker, raw, sink, recursive, json)


def _predict(
    predictor: Predictor,
    inputs: Sequence[str],
    out: Path,
    smooth: float | None,
    flicker: bool,
    raw: str | None,
    sink: Sequence[str],
    recursive: bool,
    json: Path | None,
) -> None:
    from kerbseg.bundle import versions
    from kerbseg.predict import RawFrames, Unfinished, VideoOptions, VideoReport, predict_files

    videos: list[VideoReport] = []
    failed: dict[str, KerbsegError] = {}
    options = VideoOptions(smooth, flicker, None if raw is None else RawFrames.parse(raw), videos.append)
    try:
        written = predict_files(predictor, inputs, out, progress, options, sinks=sink or None, recursive=recursive)
    except Unfinished as error:
        failed = error.failures
        print(f"kerbseg: {error}", file=sys.stderr)
        sys.exit(1)
    finally:  # Ctrl-C is how a camera's pictures end
        for video in videos:
            tell(video)
        if json is not None:
            engine = predictor.runtime
            made = {"model": engine.card.model, "runtime": engine.name, "precision": engine.precision}
            figures = {
                "videos": [video.to_dict() for video in videos],
                "failed": {redact(given): str(error) for given, error in failed.items()},
                "protocol": {**made, "versions": versions()},
            }
            write_json(json, figures)
    tell(f"{len(written)} input(s) segmented into {out}")
