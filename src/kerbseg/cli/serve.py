"""`kerbseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Device, Fit, Precision, Runtime, Threads, Whole, WholeOrNothing
from kerbseg.cli.terminal import tell
from kerbseg.core.collector import no_collection
from kerbseg.core.errors import KerbsegWarning, check_installed

LOCAL = ("127.0.0.1", "localhost", "::1")


@app.command
def serve(
    model: str,
    *models: str,
    host: str = "127.0.0.1",
    port: Whole = 8000,
    workers: WholeOrNothing = None,
    queue: Whole = 64,
    batch: WholeOrNothing = None,
    wait_ms: float = 0.0,
    max_mb: float = 32.0,
    max_pixels: WholeOrNothing = None,
    timeout: float = 30.0,
    keys: Path | None = None,
    cors: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    size: str | None = None,
    unknown: float | None = None,
) -> None:
    """Segment pictures for other programs, over HTTP.

    POST a picture to /v1/segment: it answers with JSON, or with a picture of ids or of the overlay. /docs is a page of
    all that can be asked, with a form to try it; /metrics is for Prometheus; KServe's protocol (v2) and a WebSocket for
    frames are there too. Ids are those of `kerbseg predict`. Nobody but this machine can reach it unless --host says
    so. Ctrl-C or SIGTERM ends it when what waits is done.

    Example: `kerbseg serve mininet_v2_cpu-camvid --port 8000`

    Parameters
    ----------
    model
        Model: a file, a run folder, or the name of shipped weights; NAME=MODEL gives it another name
    models
        More of them; the first is meant where a request names none
    host
        Address to listen at; 0.0.0.0 lets others in, who then need --keys or a proxy that asks for a password
    port
        Port to listen at; 0 takes a free one
    workers
        Pictures that are segmented at the same time, each with its part of the threads (default: 2; 1 on a GPU)
    queue
        Pictures that wait at most; more are refused with status 429
    batch
        Pictures in one call of the network at most (default: 8 on a GPU, 1 on a processor)
    wait_ms
        Milliseconds that the first picture of a batch waits at most for others
    max_mb
        Megabytes of a request at most
    max_pixels
        Pixels of a picture at most (default: 67,108,864)
    timeout
        Seconds that a request may take to come, and a picture may wait
    keys
        File with the keys that requests need, one a line (default: none is needed)
    cors
        Origin whose pages may call this from a browser, such as https://example.org, once for each (default: none)
    size
        HEIGHTxWIDTH that pictures are looked at (default: the height that the network was trained on)
    unknown
        Give pixels the id 255 (no class) where the confidence is below UNKNOWN (0 to 1)
    """
    import warnings

    check_installed("serve", ("fastapi", "uvicorn", "websockets", "python_multipart"))
    with no_collection():
        from kerbseg.cli.predicting import parse_looks
        from kerbseg.data.pictures import MAX_PIXELS
        from kerbseg.runtime import open_runtime
        from kerbseg.serve.gate import read_keys
        from kerbseg.serve.limits import Limits
        from kerbseg.serve.server import Server, ServerOptions
        from kerbseg.serve.service import Service, named

        limits = Limits(
            workers, queue, batch, wait_ms, max_mb, MAX_PIXELS if max_pixels is None else max_pixels, timeout
        )
        listening = ServerOptions(host, port, () if keys is None else read_keys(keys), cors)
        asked = parse_looks(size, None, None, None, None)
        opened = {
            name: open_runtime(file, engine=runtime, device=device, threads=threads, precision=precision)
            for name, file in named([model, *models]).items()
        }
    predictors = {name: asked.open(each, fit=fit, unknown=unknown)[0] for name, each in opened.items()}
    if host not in LOCAL and not listening.keys:
        text = f"whoever reaches {host} may use this service; give --keys, or let a proxy ask for a password"
        warnings.warn(KerbsegWarning(text), stacklevel=2)
    server = Server(Service(predictors, limits), listening)
    tell(server.serve_until_told(lambda: tell(f"serving {', '.join(opened)} at {server.address} (page: /docs)")))
