"""`kerbseg evaluate` and `kerbseg predict`."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.clustering import Cluster
from kerbseg.cli.next_steps import after_evaluate
from kerbseg.cli.options import (
    Address,
    ClusterEngine,
    DataRoot,
    Device,
    Fit,
    Html,
    Json,
    OutOrStore,
    Precision,
    Runtime,
    Submission,
    Threads,
    Topic,
    Whole,
    WholeOrNothing,
    Workers,
)
from kerbseg.cli.terminal import progress, show, tell, write_json, write_page
from kerbseg.core.collector import no_collection
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write

if TYPE_CHECKING:
    from kerbseg.core.types import Sample


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
    tta: Literal["none", "flip", "flip_scales"] = "none",
    by: Literal["drive"] | None = None,
    corrupt: str | None = None,
    severity: WholeOrNothing = None,
    limit: WholeOrNothing = None,
    json: Json = None,
    html: Html = None,
    boundary: bool = False,
    save: Path | None = None,
    submission: Submission = None,
    unknown: float | None = None,
    measure: Literal["probability", "entropy", "margin"] = "probability",
    engine: ClusterEngine = None,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Compute mIoU, per-class IoU and calibration on a split.

    Calibration is how far the network's confidence can be believed: expected calibration error (ECE), the same with
    bins of equally many pixels (adaptive ECE), and Brier score; lower is better. They are those at the temperature of
    the model, if `kerbseg calibrate` has set one, with those at 1 beside them.
    With --engine ray it is not measured: workers count confusions, and their sum is the same to the last bit.

    Example: `kerbseg evaluate run/best.safetensors --data camvid --split test --json figures.json`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, or hf://OWNER/NAME
    data
        Name of the data set: {data_sets}
    split
        Split to evaluate on: train, val or test
    tta
        Test-time augmentation; flip: average with the flipped picture; flip_scales: the same, at 0.75, 1 and 1.25 of
        the size
    by
        Also compute the scores of each drive (pictures with the same name up to the first `_` or `/`; or up to the
        last, where all begin alike)
    corrupt
        Also compute mIoU on corrupted pictures: kinds or groups of them, separated by commas: {corruptions}
    severity
        How strong corruptions are: 1 to 5 (default: 3)
    limit
        Evaluate on the first N pictures only
    html
        Write a page that shows where the model fails (one file): confusions, boundary IoU, sizes, the worst pictures
    boundary
        Also measure boundary IoU, mIoU near borders and IoU by size (with --html always)
    save
        Folder to write predictions, overlays, and pictures of the confusion matrix, of how often the network is right
        where it is so and so sure (reliability.svg), and of the errors where it is sure (risk_coverage.svg) to
    unknown
        Also compute mIoU of the pixels whose confidence is at least UNKNOWN (0 to 1), and their share (coverage)
    measure
        What the confidence is: probability of the class; entropy: 1 - entropy / log(classes); margin: distance of the
        probability to the second class
    """
    cluster = Cluster.parse(engine, address, workers)
    if cluster is not None:
        given = {"--corrupt": corrupt, "--severity": severity, "--html": html, "--boundary": boundary, "--save": save}
        cluster.refuse({**given, "--submission": submission, "--unknown": unknown})
    from contextlib import nullcontext

    with no_collection():
        from kerbseg.apps.evaluation import CorruptedPictures, WorstPictures, page
        from kerbseg.apps.evaluation_table import render_corruptions, render_table
        from kerbseg.apps.reliability import save_confidence
        from kerbseg.apps.text import render_text
        from kerbseg.cli.clustering import absolute_root, evaluate_on_cluster
        from kerbseg.cluster import EvaluateTask, ModelFiles
        from kerbseg.data import open_dataset
        from kerbseg.data.corrupt import chosen
        from kerbseg.evaluate import UnlabelledError
        from kerbseg.evaluate import evaluate as compute
        from kerbseg.predict.draw import confusion_picture
        from kerbseg.predict.files import saving
        from kerbseg.predict.submission import submission as open_submission
        from kerbseg.runtime import RuntimeOptions, open_runtime

        chosen(corrupt, severity)  # a bad name is said before anything is opened
        opened = open_runtime(model, engine=runtime, device=device, threads=threads, precision=precision)
    dataset = open_dataset(data, split, data_root)
    if cluster is not None:
        options = RuntimeOptions(runtime, device, threads or 1, precision)
        task = EvaluateTask(ModelFiles.read(model), data, split, absolute_root(data, data_root), options, fit, tta)
        counted = evaluate_on_cluster(cluster, task, opened, dataset, limit, by)
        if json is not None:
            write_json(json, counted.to_dict())
        show(render_table(counted))
        return
    saved = saving(save, dataset.labels) if save is not None else None
    worst = WorstPictures(dataset.labels) if html is not None else None
    corrupted = CorruptedPictures(dataset.labels) if html is not None else None
    with open_submission(submission, dataset.labels) if submission is not None else nullcontext() as submit:

        def on_prediction(sample: Sample, ids: Any) -> None:
            if saved is not None:
                saved(sample, ids)
            if worst is not None:
                worst(sample, ids)
            if submit is not None:
                submit(sample.name, ids)

        try:
            report = compute(
                opened,
                dataset,
                limit=limit,
                tta=tta,
                by=by,
                details=boundary or worst is not None,
                calibration=True,
                fit=fit,
                corrupt=corrupt,
                severity=severity,
                unknown=unknown,
                measure=measure,
                on_prediction=on_prediction,
                on_corrupted=corrupted,
                progress=progress,
            )
        except UnlabelledError:
            if submit is None:
                raise
            report = None
    if submission is not None:
        tell(f"predictions for the server: {submission}")
    if report is None:
        tell(f"split {split!r} of {data!r} has no labels, so mIoU is not measured")
        return
    if json is not None:
        write_json(json, report.to_dict())
    if save is not None:
        with atomic_write(save / "confusion.png") as temporary:
            confusion_picture(report.metrics, dataset.labels).save(temporary)
        save_confidence(report, save)
    if html is not None and worst is not None and corrupted is not None:
        write_page(html, page(report, dataset.labels, worst.in_order(), corrupted.shown))
        tell(f"report: {html}")
    show(render_table(report))
    if report.corruptions is not None:
        show(render_corruptions(report.corruptions))
    if report.text is not None:
        show(render_text(report))
    after_evaluate(model, data, data_root, dataset)


@app.command
def predict(
    model: str,
    *inputs: str,
    out: OutOrStore = None,
    save: str | None = None,
    confidence: Annotated[bool, Parameter(negative="")] = False,
    show: Annotated[bool, Parameter(negative="")] = False,
    alpha: float = 0.5,
    legend: bool | None = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    submission: Submission = None,
    smooth: float | None = None,
    flicker: bool = False,
    raw: str | None = None,
    sink: Annotated[tuple[str, ...], Parameter(show=False)] = (),
    recursive: bool = False,
    json: Json = None,
    topic: Topic = (),
    only: Annotated[bool, Parameter(negative="")] = False,
    prefix: str | None = None,
    size: str | None = None,
    roi: str | None = None,
    tiles: str | None = None,
    overlap: WholeOrNothing = None,
    stride: Whole = 1,
    newest: Annotated[bool, Parameter(negative="")] = False,
    cpus: str | None = None,
    unknown: float | None = None,
    measure: Literal["probability", "entropy", "margin"] = "probability",
    engine: ClusterEngine = None,
    address: Address = None,
    workers: Workers = None,
) -> None:
    """Segment pictures, folders, globs, videos, streams and bags.

    Prints a line for each picture: name, height x width, shares of the largest classes, time of the prediction.
    Writes STEM_ids.png (train ids) and STEM_overlay.png, for a video STEM_overlay.mp4, and classes.json, which says
    what the ids mean. A stream is `-` (a video on the standard input), a camera (0, /dev/video0), a named pipe or an
    address; Ctrl-C ends it and keeps the file. An input that cannot be read is left out; the others are segmented, and
    the status is 1. A bag is a robot's recording: a rosbag2 folder, .mcap, .db3, or ROS 1 .bag. With -o out.mcap its
    masks, confidence and names of classes go into a bag beside all that it holds; with a folder each of its topics is
    a video.

    Examples: `kerbseg predict run/best.safetensors street.jpg -o out --save ids,overlay,json`,
    `kerbseg predict mininet_v2_cpu-camvid drive.mcap --topic /cam/image_raw -o out.mcap`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, or hf://OWNER/NAME
    inputs
        Pictures, folders, globs, videos, streams, bags
    out
        Folder for the results (default: predictions); other files in it stay as they are. Of a bag also a bag: a name
        that ends with .mcap, or with `--save bag` a folder (rosbag2)
    save
        What to write, separated by commas: {saved} (default: ids,overlay; for videos overlay). ids is gray and right in
        every program, palette is in color and right in Pillow alone, frames is a video's overlays as pictures; with
        --engine ray also parquet, rows of Parquet. Into a bag go ids, confidence and overlay (default: ids,confidence)
    confidence
        Also write STEM_confidence.png, how sure each pixel's class is (0 to 255), of a video a folder of them;
        as --save with confidence. `kerbseg calibrate` makes it one that can be believed
    show
        Open the first result in this system's viewer
    alpha
        Weight of the colors in overlays: 0 (the picture alone) to 1 (the colors alone)
    legend
        Draw the names of the classes below overlays (default: for pictures)
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
        Older name of --save
    recursive
        Also take what is in the subfolders of folders; results then lie in subfolders of OUT
    only
        Into a bag write what is predicted only, without copying what was recorded
    prefix
        Into a bag write topics under this name (default: `segmentation` beside each camera's topic)
    size
        HEIGHTxWIDTH that pictures are looked at, such as 256x512 (default: the height that the network was trained on,
        their proportions kept); smaller is faster. An exported model takes its own size alone
    roi
        X,Y,W,H of the part that is looked at, in pixels, such as 0,120,640,240; ids elsewhere are 255
    tiles
        HEIGHTxWIDTH of tiles, multiples of 64, in which pictures are looked at as large as they are; for large ones
    overlap
        Pixels by which tiles overlap (default: as far as the network looks, without a seam, if tiles have room)
    stride
        Of videos: look at each N-th frame only; frames keep their times
    newest
        Of live streams: drop the frames that come while one is worked on, so that results are never late
    cpus
        CPUs to run on, such as 0,2 or 4-7 (Linux)
    unknown
        Give pixels the id 255 (no class) where the confidence is below UNKNOWN (0 to 1); drawings show them black
    measure
        What the confidence is: probability of the class; entropy: 1 - entropy / log(classes); margin: distance of the
        probability to the second class
    """
    from kerbseg.core.cpus import on_cpus, parse_cpus
    from kerbseg.predict.interrupts import FROM_OUTSIDE, ending_once

    beside = out is not None or save is not None or sink or show or confidence or roi or unknown is not None
    if submission is not None and beside:
        raise KerbsegError(
            "--submission writes label ids for a server and nothing else; leave --out, --save, --show, --confidence,"
            " --roi, --unknown out"
        )
    cluster = Cluster.parse(engine, address, workers)
    if cluster is not None:
        alone = {"--submission": submission, "--show": show, "--sink": sink, "--raw": raw, "--flicker": flicker}
        cluster.refuse({**alone, "--newest": newest, "--cpus": cpus, "--only": only, "--prefix": prefix})
    bound = None if cpus is None else parse_cpus(cpus)
    with on_cpus(bound), ending_once(SIGINT, *FROM_OUTSIDE, last=True):
        with no_collection():
            from kerbseg.cli.clustering import cluster_folder, local_folder, predict_on_cluster, words_of
            from kerbseg.cli.predicting import (
                Results,
                bag_to_write,
                kinds_to_save,
                parse_looks,
                predict_and_tell,
                predict_bag_and_tell,
                protocol,
                results_folder,
            )
            from kerbseg.predict import RawFrames, Style, VideoOptions
            from kerbseg.runtime import RuntimeOptions, open_runtime

            style, asked = Style(alpha, legend), parse_looks(size, roi, tiles, overlap, bound)
            place = bag = kinds = None
            if cluster is None:
                place = local_folder(out)
                others = {"--legend": legend, "--show": show, "--sink": sink, "--raw": raw, "--recursive": recursive}
                bag = bag_to_write(inputs, place, save, topic, only, prefix, confidence, smooth, others)
                kinds = None if bag is not None else kinds_to_save(save, sink, confidence)
            told = confidence or unknown is not None or "confidence" in (save or "")
            if measure != "probability" and not told and (bag is None or "confidence" not in bag.contents.words):
                raise KerbsegError(f"--measure {measure} is of the confidence; add --confidence, or --unknown")
            own = RuntimeOptions(runtime, device, threads or (None if cluster is None else 1), precision)
            opened = open_runtime(model, own)
        predictor, segmenter, looks = asked.open(opened, fit=fit, measure=measure, unknown=unknown)
        if cluster is not None:
            from kerbseg.cluster import ModelFiles, PredictTask

            words, parquet = words_of(save)
            task = PredictTask(
                model=ModelFiles.read(model),
                out=cluster_folder(out, predictor),
                options=own,
                looks=asked,
                fit=fit,
                measure=measure,
                unknown=unknown,
                words=words,
                parquet=parquet,
                confidence=confidence,
                style=style,
                smooth=smooth,
                stride=stride,
            )
            made = {**protocol(predictor), **looks}
            predict_on_cluster(cluster, task, predictor, inputs, made, json, recursive, topic)
            return
        if submission is not None:
            from kerbseg.predict.submission import submit_files

            count = submit_files(predictor, inputs, submission, progress, recursive)
            tell(f"{count} prediction(s) for the server: {submission}")
            return
        if bag is not None:
            options = VideoOptions(smooth, flicker, stride=stride, newest=newest)
            predict_bag_and_tell(predictor, segmenter, inputs[0], bag, options, style, json, looks)
            return
        folder = results_folder(place, predictor)
        results = Results(predictor, folder, show, keep=json is not None, looks=looks)
        raw_frames = None if raw is None else RawFrames.parse(raw)
        options = VideoOptions(smooth, flicker, raw_frames, results.video, stride, newest)
        predict_and_tell(
            segmenter,
            inputs,
            folder,
            results,
            options,
            json,
            sinks=kinds,
            style=style,
            recursive=recursive,
            topics=topic,
        )
