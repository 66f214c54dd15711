"""The command line: thin functions whose docstrings are the help. Heavy packages are imported inside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from kerbseg.core.errors import UserError
from kerbseg.core.files import atomic_write

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kerbseg.core.types import Sample

app = App(
    name="kerbseg",
    help="Real-time semantic segmentation for robots and vehicles: train, evaluate, compress, export, run.",
    help_format="markdown",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `main` says what Ctrl-C leaves
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command.

    Leaves with status 2 for bad input (one line on stderr), 130 for Ctrl-C; a defect of ours is a traceback.
    """
    try:
        given = sys.argv[1:] if arguments is None else arguments
        # to the parser a lone hyphen is an option that has no name
        given = ["/dev/stdin" if each == "-" else each for each in given]
        app(given, exit_on_error=False, print_error=False, result_action="return_value")
    except UserError as error:
        _leave(str(error), 2)
    except CycloptsError as error:
        _leave(f"{str(error).strip()} See: kerbseg --help", 2)
    except BrokenPipeError:  # the reader of our output went away, such as `head`
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        _leave("interrupted; what was finished is kept", 130)


def _leave(message: str, status: int) -> None:
    print(f"kerbseg: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


DataRoot = Annotated[Path | None, Parameter(help="folder of the data set; without it $KERBSEG_DATA/<name>")]
Json = Annotated[Path | None, Parameter(help="write the figures here as JSON")]
Runtime = Annotated[
    Literal["torch", "torch-eager", "torch-compiled", "onnx", "openvino"] | None,
    Parameter(help="what runs the model; follows from the file without it"),
]
Device = Annotated[str, Parameter(help="cpu or cuda; tensorrt for .onnx")]
Threads = Annotated[int | None, Parameter(help="of the processor; all without it")]
Precision = Annotated[
    Literal["float32", "bfloat16", "float16"] | None, Parameter(help="to compute in; what the file holds without it")
]


@app.command
def demo(*, out: Path = Path("demo"), minutes: float = 2.5) -> None:
    """Run the whole story on drawn street scenes; ends with OUT/report.html.

    Check, train, evaluate, export, quantise, time, predict: at most 5 minutes on 2 cores. Nothing is downloaded.
    Example: `kerbseg demo --out demo`

    Parameters
    ----------
    out
        folder of the report and everything it shows
    minutes
        how long the training may take
    """
    from kerbseg.apps.demo import run

    print(f"open {run(out, minutes)}")


@app.command
def models(*, json: Json = None) -> None:
    """List every network with parameters, MACs at its paper's input size, and paper.

    Example: `kerbseg models --json models.json`
    """
    import kerbseg.models as registry

    cards = [registry.card(name) for name in registry.list_models()]
    rows = [
        {
            "name": card.name,
            "paper": card.paper,
            "parameters": card.parameters,
            "macs": card.macs,
            "input": list(card.input),
            "classes": card.classes,
            "stride": card.stride,
        }
        for card in cards
    ]
    if json is not None:
        _write_json(json, rows)
    from rich.table import Table

    table = Table("network", "parameters", "GMACs", "at (HxW)", "paper", "what it is")
    for card in cards:
        size = f"{card.input[0]}x{card.input[1]}"
        table.add_row(card.name, f"{card.parameters:,}", f"{card.macs / 1e9:.3f}", size, card.paper, card.summary)
    _show(table)


@app.command
def doctor(data: str, *, data_root: DataRoot = None, json: Json = None) -> None:
    """Check a data set: pairs, sizes, ids, unknown ids, void share, class weights of each formula.

    Example: `kerbseg doctor camvid --data-root data/camvid`

    Parameters
    ----------
    data
        camvid, cityscapes, minicity, folder or scenes
    """
    from kerbseg.data.doctor import examine_all, on_terminal, render

    examination = examine_all(data, data_root, track=on_terminal)
    if json is not None:
        _write_json(json, examination.to_dict())
    _show(render(examination))
    if not examination.healthy:
        raise UserError(f"data set {data!r} has {len(examination.problems)} problem(s), listed above; mend them first")


@app.command
def train(
    recipe: str,
    *overrides: str,
    data_root: DataRoot = None,
    out: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    devices: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 0,
    cache: Literal["auto", "device", "ram", "none"] = "auto",
    compile: bool = False,
) -> None:
    """Train a network as a recipe says.

    Writes recipe.yaml, metrics.csv, tensorboard/, last.ckpt, best.safetensors and last.safetensors.
    Example: `kerbseg train camvid/mininet_v2_cpu epochs=2 --data-root data/camvid --out run`

    Parameters
    ----------
    recipe
        a YAML file, or the name of a shipped one such as camvid/mininet_v2_cpu
    overrides
        recipe keys to change, such as optim.lr=1e-3
    out
        folder of the run; runs/<recipe> without it
    init
        weights to start from: a bundle, or a classifier for the part that model.init names
    resume
        go on with the run in OUT; ends with the weights of an unbroken run
    devices
        how many share each batch, with the result of one; torchrun tells it by itself
    workers
        processes that read pictures from disk
    cache
        where decoded pictures are kept; auto: on the device or in memory, if they need less than a quarter of it
    compile
        let torch compile the network: takes a minute or more at first, and pays in long runs
    """
    from kerbseg.train.recipe import Classification, read_any

    settings = read_any(recipe, overrides)  # a slip is told before torch is imported

    from kerbseg.train.engine import this_process

    run = out or Path("runs") / Path(recipe).with_suffix("").name
    common: dict[str, Any] = {
        "data_root": data_root,
        "initial": init,
        "resume": resume,
        "device": device,
        "devices": devices,
        "workers": workers,
        "compile": compile,
    }
    if isinstance(settings, Classification):
        from kerbseg.train.classify import fit_classifier

        best = fit_classifier(settings, run, **common)
        if this_process(devices, settings).index == 0:
            print(f"classifier: {best}")
        return
    from kerbseg.train.fit import fit

    bundle = fit(settings, run, cache=cache, **common)
    if this_process(devices, settings).index > 0:
        return
    scores = bundle.card.scores
    print(f"best validation mIoU {scores['miou']:.4f} after epoch {scores['epoch']}: {run / 'best.safetensors'}")


@app.command
def evaluate(
    model: Path,
    *,
    data: str,
    split: str = "test",
    data_root: DataRoot = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    tta: Literal["none", "flip"] = "none",
    limit: int | None = None,
    json: Json = None,
    save: Path | None = None,
    submission: Path | None = None,
) -> None:
    """Score a model on a split, from one confusion matrix over the whole set.

    Example: `kerbseg evaluate run/best.safetensors --data camvid --split test --json scores.json`

    Parameters
    ----------
    model
        a bundle (.safetensors), .onnx or OpenVINO .xml
    limit
        only the first N pictures
    save
        folder for the predictions, overlays and the confusion matrix as a picture
    submission
        folder or .zip of predictions for the server of Cityscapes or Minicity; the split needs no labels
    """
    from contextlib import nullcontext

    from kerbseg.data import open_dataset
    from kerbseg.evaluate import UnlabelledError, render_table
    from kerbseg.evaluate import evaluate as score
    from kerbseg.predict.draw import confusion_picture
    from kerbseg.predict.predictor import saving
    from kerbseg.predict.submission import submission as open_submission
    from kerbseg.runtime import open_runtime

    opened = open_runtime(model, runtime, device, threads, precision)
    dataset = open_dataset(data, split, data_root)
    sink = saving(save, dataset.labels) if save is not None else lambda sample, ids: None
    with open_submission(submission, dataset.labels) if submission is not None else nullcontext() as submit:

        def both(sample: Sample, ids: Any) -> None:
            sink(sample, ids)
            if submit is not None:
                submit(sample.name, ids)

        try:
            report = score(opened, dataset, limit=limit, tta=tta, sink=both, progress=_progress)
        except UnlabelledError:
            if submit is None:
                raise
            report = None
    if submission is not None:
        print(f"predictions for the server: {submission}")
    if report is None:
        print(f"split {split!r} of {data!r} has no labels here, so there is no score")
        return
    if json is not None:
        _write_json(json, report.to_dict())
    if save is not None:
        with atomic_write(save / "confusion.png") as temporary:
            confusion_picture(report.scores, dataset.labels).save(temporary)
    _show(render_table(report))


@app.command
def predict(
    model: Path,
    *inputs: str,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    submission: Path | None = None,
    smooth: float | None = None,
    flicker: bool = False,
    raw: str | None = None,
    json: Json = None,
) -> None:
    """Segment pictures, folders, globs, videos and streams.

    Writes <stem>_ids.png (train ids) and <stem>_overlay.png; of a video <stem>_overlay.mp4. A stream is `-` (a video on
    the standard input), a camera (0, /dev/video0), a named pipe or an address; Ctrl-C ends it and keeps the file.
    Example: `kerbseg predict run/best.safetensors street.jpg -o out`

    Parameters
    ----------
    submission
        instead of OUT, folder or .zip of predictions for the server of Cityscapes or Minicity
    smooth
        of videos: steadier classes, by a vote that follows what moves, in which a frame that is n frames old has the
        weight SMOOTH^n (0.5 to 1; 0.7 follows a change after 2 frames, 0.8 after 4, 0.9 after 7)
    flicker
        of videos: also measure the share of pixels that change class between frames aligned by optical flow
    raw
        HEIGHTxWIDTH@RATE of RGB frames without a container on the standard input, such as 360x480@25
    """
    from kerbseg.bundle import versions
    from kerbseg.predict import Predictor, RawFrames, VideoOptions, VideoReport, predict_files
    from kerbseg.runtime import open_runtime

    if (out is None) == (submission is None):
        raise UserError("predict writes to --out FOLDER or to --submission FOLDER|ZIP; give one of them")
    if submission is not None:
        from kerbseg.predict.submission import submit_files

        predictor = Predictor(open_runtime(model, runtime, device, threads, precision))
        count = submit_files(predictor, inputs, submission, _progress)
        print(f"{count} prediction(s) for the server: {submission}")
        return
    assert out is not None
    videos: list[VideoReport] = []
    film = VideoOptions(smooth, flicker, None if raw is None else RawFrames.parse(raw), videos.append)
    predictor = Predictor(open_runtime(model, runtime, device, threads, precision))
    try:
        written = predict_files(predictor, inputs, out, _progress, film)
    finally:  # Ctrl-C is how a camera's pictures end
        for video in videos:
            print(video)
        if json is not None:
            engine = predictor.runtime
            made = {"model": engine.card.model, "runtime": engine.name, "precision": engine.precision}
            protocol = {**made, "versions": versions()}
            _write_json(json, {"videos": [video.to_dict() for video in videos], "protocol": protocol})
    print(f"{len(written)} input(s) segmented into {out}")


@app.command(name="import")
def import_(
    format: str,
    source: Path,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    classes: str | None = None,
    model: str | None = None,
) -> None:
    """Make a bundle of an authors' checkpoint.

    Example: `kerbseg import mininet-tf model.npz -o mininet.safetensors --classes camvid`

    Parameters
    ----------
    format
        mininet-tf, erfnet-pytorch, liteseg-pytorch or efficientseg-pytorch
    source
        the authors' file (.pth, .tar, .npz, or a TensorFlow checkpoint prefix)
    classes
        label set: cityscapes, camvid or text; by the number of outputs without it
    model
        registered name; recognised from the keys without it
    """
    from kerbseg.bundle import save
    from kerbseg.core.labels import label_set
    from kerbseg.importers import import_checkpoint

    bundle = import_checkpoint(format, source, label_set(classes) if classes else None, model)
    save(bundle, out)
    card = bundle.card
    print(f"{out}: {card.model}, {len(card.labels)} classes of {card.labels.name}, {card.outputs} outputs")


@app.command
def export(
    bundle: Path,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    size: str | None = None,
    int8: bool = False,
    calibration: str | None = None,
    data_root: DataRoot = None,
    max_drop: float = 0.01,
    limit: int | None = None,
    scores: bool = False,
    parity: float = 0.999,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Write a bundle as ONNX (.onnx) or OpenVINO (.xml and .bin): uint8 [b h w 3] RGB to uint8 [b h w] class ids.

    The file takes pictures of one size, in batches of any; it is compared with torch before it is put in its place.
    Examples: `kerbseg export run/best.safetensors -o m.xml --size 256x512`,
    `kerbseg export run/best.safetensors -o m8.xml --int8 --calibration camvid`

    Parameters
    ----------
    size
        height x width of the pictures; the bundle's own without it
    int8
        quantise, and report what it costs and gains; needs --calibration
    calibration
        data set whose train split int8 is calibrated on; its val split judges the loss
    max_drop
        mIoU that int8 may lose; operations that lose most stay in float until it holds
    limit
        judge int8 on the first N pictures of the val split only
    scores
        a second output: the scores before the last interpolation, float32 [b k h w]
    parity
        smallest share of pixels whose class must be that of torch; of float files only
    """
    from kerbseg.bundle import load
    from kerbseg.data import open_dataset
    from kerbseg.export import export as write
    from kerbseg.export import export_int8, pictures_of
    from kerbseg.export.int8_report import render

    source, at = load(bundle), _size(size)
    if not int8:
        shown = open_dataset(calibration, "val", data_root) if calibration else open_dataset("scenes", "val", None)
        pictures = pictures_of(shown, at or source.card.input_size, 8)
        found = write(source, out, at, pictures=pictures, scores=scores, floor=parity)
        print(f"{out}: {found}")
        if json is not None:
            _write_json(json, found.to_dict())
        return
    if calibration is None:
        raise UserError("--int8 needs --calibration DATA, pictures of the place where the network will work")
    train, val = (open_dataset(calibration, split, data_root) for split in ("train", "val"))
    report = export_int8(
        source, out, at, calibration=train, eval_set=val, max_drop=max_drop, limit=limit, threads=threads
    )
    if json is not None:
        _write_json(json, report.to_dict())
    _show(render(report))


@app.command
def profile(
    model: str,
    *,
    against: str | None = None,
    size: str | None = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    runs: int = 100,
    layers: bool = False,
    convention: str = "true",
    json: Json = None,
) -> None:
    """Count parameters, MACs and GFLOPs (= 2 x MACs) of a model, its size in bytes, and time it.

    Latency: one picture, from uint8 pixels to class ids of the same size, in a process of its own.
    Example: `kerbseg profile m.xml --against best.safetensors --threads 2`

    Parameters
    ----------
    model
        a registered name (random weights), a bundle, .onnx or OpenVINO .xml
    against
        a second model, timed by turns with the first
    size
        height x width of the picture; the paper's, or the model's own, without it
    runs
        timings of each; 0 to count only
    layers
        also list every layer, and the ten that take longest
    convention
        a paper's way to count beside the true one: grouping_paper, liteseg_paper or tf_profiler
    """
    from kerbseg.apps.profile import profile_models, render
    from kerbseg.apps.timing import RuntimeOptions

    names = [model] if against is None else [model, against]
    setup = RuntimeOptions(runtime, device, threads, precision)
    found = profile_models(names, _size(size), convention, setup, runs, layers)
    if json is not None:
        _write_json(json, found[0].to_dict() if against is None else [one.to_dict() for one in found])
    for one in found:
        _show(render(one, layers))


@app.command
def group(
    model: str,
    *,
    groups: int,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    select: tuple[str, ...] = (),
    kinds: tuple[Literal["pointwise", "spatial", "transposed"], ...] = (),
    channels: int | None = None,
    into: str | None = None,
    classes: str = "cityscapes",
) -> None:
    """Make the grouped network of a dense one: gradual grouping's collapse, without its training.

    The result is the registered variant that has these groups, such as erfnet_dg4 of erfnet_d; where there is none,
    the same network with the option `grouped`. It needs training: `kerbseg train ... --init OUT`.
    Example: `kerbseg group runs/erfnet_d/best.safetensors --groups 4 -o erfnet_dg4.safetensors`

    Parameters
    ----------
    model
        a bundle, or a registered name for random weights
    groups
        of each chosen convolution
    select
        name patterns of convolutions, such as 'features.*'; can be repeated
    kinds
        of convolutions: pointwise (without this option), spatial, transposed
    channels
        only convolutions with at least so many inputs and outputs
    into
        registered name of the result; found without it
    classes
        label set of random weights: cityscapes, camvid or text
    """
    from kerbseg.bundle import load, save
    from kerbseg.compress.convolutions import Selection
    from kerbseg.core.labels import label_set
    from kerbseg.regroup import group as regroup
    from kerbseg.regroup import random_bundle

    source = load(model) if model.endswith(".safetensors") else random_bundle(model, label_set(classes))
    asked = select or kinds or channels is not None
    chosen = Selection(select, kinds or ("pointwise",), channels or 1) if asked else None
    result = regroup(source, groups, chosen, into)
    save(result.bundle, out)
    before, after = (sum(each.numel() for each in net.parameters()) for net in (source.model, result.bundle.model))
    print(
        f"{out}: {result.bundle.card.model}, {len(result.names)} convolutions in {groups} groups, {before:,} parameters"
        f" became {after:,}; {result.lost:.0%} of the grouped weights (squared) is gone: train it on with --init {out}"
    )


@app.command
def table(
    paper: str,
    number: str | None = None,
    *,
    measure: bool = False,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
) -> None:
    """Show a paper's table: printed value, ours, difference, or 'not measured'.

    Example: `kerbseg table grouping 3 --measure`

    Parameters
    ----------
    paper
        erfnet, grouping, mininet, liteseg or efficientseg
    number
        which table; all of them without it
    measure
        compute our figures now
    """
    from kerbseg.tables import render

    text = render(paper, number, measure)
    if out is None:
        print(text)
    else:
        with atomic_write(out) as temporary:
            temporary.write_text(text)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UserError(f"size {text!r} is no HEIGHTxWIDTH such as 256x512")
    return int(height), int(width)


def _progress(items: Sequence[Any]) -> Iterable[Any]:
    """The items, with a bar and the time left where there is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, "", console=console, transient=True, disable=not console.is_terminal)


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def _show(what: RenderableType) -> None:
    from rich.console import Console

    console = Console()
    # a table cut off at 80 columns would lose figures in a log
    Console(width=None if console.is_terminal else 200).print(what)


if __name__ == "__main__":
    main()
