"""Serving the page on this computer: nothing is asked of the internet, nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kerbseg.core.errors import KerbsegError
from kerbseg.core.telemetry import switch_off
from kerbseg.page.corrections import Corrections
from kerbseg.page.looking import Models
from kerbseg.predict.interrupts import FROM_OUTSIDE

TAKEN = (errno.EADDRINUSE, errno.EACCES)
UPLOADS = "GRADIO_TEMP_DIR"  # which gradio reads anew with each file
LARGEST = "8gb"  # of a file that is given: a long video; pictures have a bound of their own, in pixels
POLICY = (  # what a browser may load: what this server has, and pictures and videos that stand in the page
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:"
)


def serve(
    models: Models,
    corrections: Corrections,
    *,
    host: str,
    port: int | None,
    on_start: Callable[[str], object],
    show: bool = False,
) -> None:
    """Serves the page until Ctrl-C or another request to end; `on_start` is called with its address.

    Raises KerbsegError where it cannot listen there.
    """
    ended = threading.Event()
    for signum in (signal.SIGINT, *FROM_OUTSIDE):
        signal.signal(signum, lambda *_: ended.set())
    with served(models, corrections, host, port) as address:
        on_start(address)
        if show:
            webbrowser.open(address)
        ended.wait()


@contextmanager
def served(models: Models, corrections: Corrections, host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """The address of the page, which is there within the block. Raises KerbsegError where it cannot listen there."""
    check_listens(host, port)
    with tempfile.TemporaryDirectory(prefix="kerbseg-page-", ignore_cleanup_errors=True) as folder:
        switch_off()
        before = os.environ.get(UPLOADS)
        os.environ[UPLOADS] = folder  # uploads lie there, and go with it
        from kerbseg.page.blocks import build, style_sheet, theme

        page = build(models, corrections, Path(folder))
        try:
            _, address, _ = page.queue(api_open=False).launch(
                server_name=host,
                server_port=port,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                footer_links=[],
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                max_file_size=LARGEST,
                css=style_sheet(models),
                theme=theme(),
                app_kwargs={"middleware": [(_Policed, (), {})]},
            )
        except OSError as error:
            place = f"{host}, ports from 7860 on" if port is None else f"{host}, port {port}"
            raise KerbsegError(
                f"cannot listen at {place}: it is taken or not ours; name another: --port 8000"
            ) from error
        try:
            yield address
        finally:
            page.close(verbose=False)
            if before is None:
                os.environ.pop(UPLOADS, None)
            else:  # of another page of this process
                os.environ[UPLOADS] = before


def check_listens(host: str, port: int | None) -> None:
    """Raises KerbsegError where nothing can listen; gradio itself would try a hundred ports, or end in a traceback."""
    if port is not None and not 1 <= port <= 65535:
        raise KerbsegError(f"port {port} is none; give 1 to 65535: --port 8000")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            if os.name == "posix":  # as a server does: what has just ended holds nothing up
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno in TAKEN and port is not None:
            raise KerbsegError(
                f"cannot listen at {host}, port {port}: it is taken or not ours; name another: --port 8000"
            ) from error
        raise KerbsegError(
            f"cannot listen at {host}: {getattr(error, 'strerror', None) or error}; give an address of this computer:"
            " --host 127.0.0.1"
        ) from error


class _Policed:
    """Adds to every answer what the browser may load; an ASGI application around another."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Callable[..., Awaitable[None]]
    ) -> None:
        await self._app(scope, receive, partial(_send, send) if scope["type"] == "http" else send)


async def _send(send: Callable[..., Awaitable[None]], message: MutableMapping[str, Any]) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [*message.get("headers", []), (b"content-security-policy", POLICY.encode())]
    await send(message)
