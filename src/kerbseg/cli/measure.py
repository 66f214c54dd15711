"""`kerbseg profile`, `benchmark`, `choose`, `table`: what models cost here, and the papers' figures beside ours."""

from __future__ import annotations

import sys

from kerbseg.cli.app import app
from kerbseg.cli.options import (
    DataRoot,
    Device,
    Json,
    OutOrNothing,
    Precision,
    Runtime,
    Threads,
    WholeOrNothing,
    parse_size,
    parse_upright_size,
)
from kerbseg.cli.terminal import next_commands, result, say, show, write_json
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write


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
    seconds: float | None = None,
    runs: WholeOrNothing = None,
    layers: bool = False,
    convention: str = "true",
    json: Json = None,
) -> None:
    """Measure a model: parameters, MACs, GFLOPs (= 2 x MACs), file size and latency.

    Latency is the time for one picture, from uint8 pixels to class ids of the same size.

    Example: `kerbseg profile m.xml --against best.safetensors --threads 2`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, hf://OWNER/NAME, or a registered name (random weights)
    against
        Second model to compare with; both are timed in turns, and one table shows both and their ratio. For a file that
        `kerbseg accelerate` wrote also the untouched network, which then runs its usual way, to its own end
    size
        Picture size, HEIGHTxWIDTH (default: the model's own, or the paper's)
    seconds
        Time for measuring latency, in seconds, for all models together (default: 10)
    runs
        Number of timed runs per model (with --seconds: the maximum); 0 measures no latency
    layers
        Also list all layers and the ten slowest
    convention
        Also count as a paper does: {conventions}
    """
    names = [model] if against is None else [model, against]
    say(f"profiling {' and '.join(names)}")  # before the imports, which take seconds
    from kerbseg.profiling.latency import Budget
    from kerbseg.profiling.report import profile_models, render
    from kerbseg.runtime import RuntimeOptions

    options = RuntimeOptions(runtime, device, threads, precision)
    others = {}
    if against is not None and against.endswith((".onnx", ".xml")):
        from kerbseg.accelerate.usual_way import is_untouched, untouched

        others = {against: untouched(against, model)} if is_untouched(against) else {}
    budget = Budget(seconds, runs)
    profiles = profile_models(names, parse_size(size), convention, options, budget, layers, say, others)
    if json is not None:
        write_json(json, profiles[0].to_dict() if against is None else [one.to_dict() for one in profiles])
    show(render(profiles, layers))


@app.command
def benchmark(
    model: str,
    *,
    formats: str = "all",
    size: str | None = None,
    threads: Threads = None,
    data: str | None = None,
    split: str = "val",
    data_root: DataRoot = None,
    limit: WholeOrNothing = None,
    int8: bool = False,
    calibration: str | None = None,
    seconds: float | None = None,
    runs: WholeOrNothing = None,
    out: OutOrNothing = None,
    json: Json = None,
) -> None:
    """Time and evaluate a model on every engine that is installed.

    Shows milliseconds, mIoU, file size, and the share of class ids that are the same as in torch. An engine that fails
    is a line with its reason, and the exit status is 1. One that is not installed is listed with the install command.

    Example: `kerbseg benchmark mininet_v2_cpu-camvid --formats onnx,openvino --threads 2`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, hf://OWNER/NAME, or a registered name (random weights)
    formats
        Engines, separated by commas: {engines}, or all; onnx-int8 and openvino-int8 run in int8
    size
        Height x width of the picture (default: the model's own)
    data
        Data set for mIoU: {data_sets} (default: mIoU is not measured)
    split
        Part of the data set
    limit
        Only the first N pictures for mIoU
    int8
        Also in int8, with each engine that has it
    calibration
        Data set whose train split int8 is calibrated on (default: that of --data, or drawn streets without one)
    seconds
        Seconds of timing, all engines together (default: 10)
    runs
        Exact number of timings of each engine, or with --seconds the most
    out
        Keep the exported files in this folder (default: they are removed)
    """
    say(f"benchmarking {model}")  # before the imports, which take seconds
    from kerbseg.apps.benchmark import benchmark as measure
    from kerbseg.apps.benchmark import render
    from kerbseg.data import open_dataset
    from kerbseg.profiling.latency import Budget

    eval_set = None if data is None else open_dataset(data, split, data_root)
    shown = calibration or data
    own_root = data_root if calibration in (None, data) or data is None else None
    report = measure(
        model,
        formats=formats,
        size=parse_upright_size(size),
        threads=threads,
        data=eval_set,
        limit=limit,
        calibration=None if shown is None else open_dataset(shown, "train", own_root),
        int8=int8,
        out=out,
        budget=Budget(seconds, runs),
        say=say,
    )
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    if report.failed:
        sys.exit(1)


@app.command
def choose(
    *,
    fps: float,
    size: str,
    threads: Threads = None,
    classes: WholeOrNothing = None,
    minutes: float = 5.0,
    network: tuple[str, ...] = (),
    model: str | None = None,
    formats: str | None = None,
    data: str | None = None,
    json: Json = None,
) -> None:
    """Find a network and an engine that are quick enough on this machine.

    Times the networks on the engines that are installed, those nearest to the wanted rate first, and ends in time; the
    rest is 'not measured'. Accuracies are those in the papers and those of the shipped weights, each with its data set.
    Run it while nothing else runs.

    Example: `kerbseg choose --fps 30 --threads 2 --size 360x640`

    Parameters
    ----------
    fps
        Pictures a second that are wanted
    size
        Height x width of the pictures
    classes
        Number of classes (default: those of --data, or 19)
    minutes
        Minutes that measuring may take
    network
        Only this network, can be repeated (default: the papers' main networks)
    model
        Instead of networks, a model that is trained: a bundle, a run folder, the name of shipped weights, or
        hf://OWNER/NAME
    formats
        Only these engines, separated by commas, such as openvino,onnx-int8 (default: those that may be the quickest)
    data
        Folder of your pictures and masks with dataset.yaml, for the commands that are printed
    """
    say("choosing a network")  # before the imports, which take seconds
    from kerbseg.apps.bench import choose_here
    from kerbseg.apps.choice import commands, render
    from kerbseg.apps.choose import Wish

    upright = parse_upright_size(size)
    assert upright is not None
    if classes is None and data is not None:
        from kerbseg.data import open_dataset

        classes = len(open_dataset("folder", "train", data).labels)
    wish = Wish(fps, upright, threads, 19 if classes is None else classes, minutes)
    if model is not None and network:
        raise KerbsegError("--model and --network exclude each other; leave one of them out")
    choice = choose_here(wish, network, model, formats, say)
    if json is not None:
        write_json(json, choice.to_dict())
    show(render(choice))
    next_commands(*commands(choice, data, model))


@app.command
def table(paper: str, number: str | None = None, *, measure: bool = False, out: OutOrNothing = None) -> None:
    """Show a table of a paper: printed value, our value, and the difference.

    Example: `kerbseg table grouping 3 --measure`

    Parameters
    ----------
    paper
        Paper: {papers}
    number
        Number of the table (default: all)
    measure
        Also count operations and measure times now
    out
        File to write the table to (default: print it)
    """
    from kerbseg.tables import render

    text = render(paper, number, measure)
    if out is None:
        result(text)
    else:
        with atomic_write(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
