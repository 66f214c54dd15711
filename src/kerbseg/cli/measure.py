"""`kerbseg profile` and `kerbseg table`: what models cost, and the papers' figures beside ours."""

from __future__ import annotations

from kerbseg.cli.app import app
from kerbseg.cli.options import Device, Json, OutOrNothing, Precision, Runtime, Threads, parse_size
from kerbseg.cli.terminal import result, say, show, write_json
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
    runs: int | None = None,
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
        Model: a file, a run folder, the name of shipped weights, or a registered name (random weights)
    against
        A second model, timed by turns with the first; one table shows both and their ratio
    size
        Height x width of the picture (default: the paper's, or the model's own)
    seconds
        Seconds of timing, all models together (default: 10)
    runs
        Exact number of timings of each model, or with --seconds the most; 0 to count only
    layers
        Also list every layer, and the ten that take longest
    convention
        A paper's way to count beside the true one: {conventions}
    """
    names = [model] if against is None else [model, against]
    say(f"profiling {' and '.join(names)}")  # before the imports, which take seconds
    from kerbseg.profiling.latency import Budget
    from kerbseg.profiling.report import profile_models, render
    from kerbseg.runtime import RuntimeOptions

    options = RuntimeOptions(runtime, device, threads, precision)
    profiles = profile_models(names, parse_size(size), convention, options, Budget(seconds, runs), layers, say)
    if json is not None:
        write_json(json, profiles[0].to_dict() if against is None else [one.to_dict() for one in profiles])
    show(render(profiles, layers))


@app.command
def table(paper: str, number: str | None = None, *, measure: bool = False, out: OutOrNothing = None) -> None:
    """Show a paper's table: printed value, ours, difference, or 'not measured'.

    Example: `kerbseg table grouping 3 --measure`

    Parameters
    ----------
    paper
        Paper: {papers}
    number
        Which table (default: all of them)
    measure
        Compute our figures now
    out
        Write the table to this file
    """
    from kerbseg.tables import render

    text = render(paper, number, measure)
    if out is None:
        result(text)
    else:
        with atomic_write(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
