"""Serving the page on this computer: nothing is asked of the internet, nothing is left behind."""

from __future__ import annotations

import os
import signal
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
    with tempfile.TemporaryDirectory(prefix="kerbseg-page-", ignore_cleanup_errors=True) as folder:
        switch_off()
        os.environ["GRADIO_TEMP_DIR"] = folder  # uploads lie there, and go with it
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
