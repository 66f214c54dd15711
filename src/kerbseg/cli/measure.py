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
    """Measure a model: parameters, MACs, GFLOPs (= 2 x MACs), file size and latency.

    Latency is the time for one picture, from uint8 pixels to class ids of the same size.

    Example: `kerbseg profile m.xml --against best.safetensors --threads 2`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, or a registered name (random weights)
    against
        Second model to compare with; both are timed in turns, and one table shows both and their ratio
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
    profiles = profile_models(names, parse_size(size), convention, options, Budget(seconds, runs), layers, say)
    if json is not None:
        write_json(json, profiles[0].to_dict() if against is None else [one.to_dict() for one in profiles])
    show(render(profiles, layers))


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
        Measure our values now
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
