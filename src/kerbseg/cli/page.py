"""`kerbseg app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Device, Fit, Precision, Runtime, Threads, WholeOrNothing
from kerbseg.cli.terminal import tell
from kerbseg.core.collector import no_collection


@app.command(name="app")
def open_page(
    model: str,
    model2: str | None = None,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("corrections"),
    host: str = "127.0.0.1",
    port: WholeOrNothing = None,
    show: Annotated[bool, Parameter(negative="")] = False,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
) -> None:
    """Open a page that shows what one or two models see, in pictures, videos and a camera; labels can be corrected.

    The page has the overlay with a switch for each class, shares, confidence, and with a mask the errors. A brush
    corrects labels, which are saved as a data set that `kerbseg train own` learns from. Nothing leaves this computer.
    Ctrl-C ends it.

    Example: `kerbseg app mininet_v2_cpu-camvid kerbnet_s-camvid -o corrections`

    Parameters
    ----------
    model
        Model: a file, a run folder, or the name of shipped weights
    model2
        A second model, shown beside the first
    out
        Data set (a folder) that corrected masks are saved to: a new one, or one with the classes of MODEL
    host
        Address to listen at; 0.0.0.0 lets every computer of the network in, and what they upload
    port
        Port to listen at (default: the first that is free from 7860 on)
    show
        Open the page in this system's browser
    """
    from kerbseg.core.errors import check_installed

    check_installed("app", ["gradio"])
    with no_collection():
        from kerbseg.page.corrections import Corrections
        from kerbseg.page.looking import open_models
        from kerbseg.page.serving import serve

        models = open_models(
            [model] if model2 is None else [model, model2],
            fit=fit,
            engine=runtime,
            device=device,
            threads=threads,
            precision=precision,
        )
        corrections = Corrections(out, models.labels)
    serve(models, corrections, host=host, port=port, show=show, on_start=lambda address: tell(f"page: {address}"))
