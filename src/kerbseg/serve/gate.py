"""What every request passes: it is counted and timed, and let in where its key is known."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kerbseg.core.errors import KerbsegError
from kerbseg.serve.metrics import Metrics
from kerbseg.serve.refusals import FORBIDDEN, NO_KEY

OPEN = ("/health", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json")  # to all, as they tell nothing
SHORTEST_KEY = 16
ELSEWHERE = "other"  # the address of requests for what is not there, of which there are any number


class Gate:
    """Lets requests through that have one of the `keys`, all where there are none; counts them all.

    A page in a browser may open a WebSocket to any address, so one from another origin than the service's is refused
    unless it is among `origins`.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, keys: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        self._app, self._metrics = app, metrics
        self._keys, self._origins = [key.encode() for key in keys], origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes a request on, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            if not self._knows(scope):
                await _no_key()(scope, receive, send)  # an answer of HTTP in place of a stream
            elif not self._is_of_ours(scope):
                words = {"error": "pages of this origin are not let in; start the service with --cors ORIGIN"}
                await JSONResponse(words, FORBIDDEN)(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s, status = time.perf_counter(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._knows(scope):
                await self._app(scope, receive, counted)
            else:
                await _no_key()(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", ELSEWHERE)
            self._metrics.count("requests_total", route=route, status=str(status))
            self._metrics.observe(time.perf_counter() - started_s, route=route)

    def _knows(self, scope: Scope) -> bool:
        if not self._keys or scope["path"] in OPEN:
            return True
        headers = _headers(scope)
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = headers.get(b"x-api-key") or (token.strip() if kind.lower() == b"bearer" else b"")
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0  # all, so that time tells nothing

    def _is_of_ours(self, scope: Scope) -> bool:
        headers = _headers(scope)
        origin = headers.get(b"origin", b"").decode("latin-1")
        own = urlsplit(origin).netloc == headers.get(b"host", b"").decode("latin-1")
        return not origin or own or origin in self._origins or "*" in self._origins


def _no_key() -> JSONResponse:
    words = {"error": "this service asks for a key; send it as the header X-API-Key"}
    return JSONResponse(words, NO_KEY, {"WWW-Authenticate": "Bearer"})


def _headers(scope: Scope) -> Mapping[bytes, bytes]:
    headers: list[tuple[bytes, bytes]] | Any = scope["headers"]
    return dict(headers)


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and those that begin with # are left out.

    Raises KerbsegError for a file that cannot be read, holds none, or a key that is short or no header can hold.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin a text with a mark
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise KerbsegError(f"keys {path} cannot be read: {why}; name a file with one key a line") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not keys:
        raise KerbsegError(f"keys {path} holds none; write one a line, or leave --keys out")
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise KerbsegError(
                f"keys {path}: key {number} is not {SHORTEST_KEY} or more letters, digits and signs; make one with:"
                " openssl rand -hex 32"
            )
    return keys
