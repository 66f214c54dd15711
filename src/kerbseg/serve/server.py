"""Runs the service until it is told to end; what waits then is finished first."""

from __future__ import annotations

import logging
import math
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType

import uvicorn

from kerbseg.core.errors import KerbsegError
from kerbseg.core.text import counted
from kerbseg.predict.interrupts import FROM_OUTSIDE
from kerbseg.serve.app import create_app
from kerbseg.serve.metrics import Metrics
from kerbseg.serve.service import Service

BACKLOG = 2048  # connections that the system keeps until they are taken
LAST_PORT = 65_535
ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")  # as browsers send it
USUAL = re.compile(r"http://.*:80|https://.*:443")  # ports that browsers leave out
FALSE_ALARM = "ASGI callable returned without completing handshake."  # what uvicorn logs of each stream it refuses
CONNECTIONS = 512  # beside those whose pictures may wait; more are answered 503 at once


@dataclass(frozen=True)
class ServerOptions:
    """Where a service listens, and to whom. Raises KerbsegError for what is no port and no origin."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any that is free
    keys: Sequence[str] = ()  # one of which requests need; empty: none
    origins: Sequence[str] = ()  # whose pages may call the service from a browser

    def __post_init__(self) -> None:
        if not 0 <= self.port <= LAST_PORT:  # a system would take the port's last 16 bits
            raise KerbsegError(f"port is {self.port}; give 0 to {LAST_PORT:,}")
        for origin in self.origins:
            if not ORIGIN.fullmatch(origin) or USUAL.fullmatch(origin):
                raise KerbsegError(
                    f"origin {origin!r} is none that a browser sends; write it in small letters, without a path or the"
                    " usual port, such as https://example.org, or * for all"
                )


class Server(uvicorn.Server):
    """Listens as soon as it is made. Raises KerbsegError where it cannot.

    When it is told to end, what is asked by then is answered, for at most `farewell_s` of the service's limits: a
    client that does not take its answer would keep it for ever.
    """

    should_exit: bool
    force_exit: bool

    def __init__(self, service: Service, options: ServerOptions) -> None:
        self._service = service
        self._socket = _listening(options.host, options.port)
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        super().__init__(
            uvicorn.Config(
                create_app(service, options.keys, options.origins),
                log_config=None,  # the log is that of whoever runs this
                log_level="warning",
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=math.ceil(service.limits.farewell_s),
                limit_concurrency=service.limits.queue + CONNECTIONS,
                ws_max_size=service.limits.bytes,
            )
        )

    def serve_until_told(self, ready: Callable[[], object] = lambda: None) -> str:
        """Serves until a signal, or `end`, ends it; `ready` is called when the networks are warm.

        Returns what was done, in a line. A second signal ends it at once.
        """
        with self._socket, self._hearing(), _without(FALSE_ALARM):
            self._service.start()
            ready()
            self.run(sockets=[self._socket])
            self._service.stop(wait=not self.force_exit)
        return summary(self._service.metrics)

    def capture_signals(self) -> AbstractContextManager[None]:
        """Nothing: uvicorn's own way raises them again at the end, so that the process would end with an error."""
        return nullcontext()

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """In it signals end the service; outside the main thread they are another's."""
        signums = (signal.SIGINT, *FROM_OUTSIDE) if threading.current_thread() is threading.main_thread() else ()
        before = {signum: signal.signal(signum, self.handle_exit) for signum in signums}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal: the first ends the service when what waits is done, the second at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def end(self) -> None:
        """Ends it from another thread, as a signal does."""
        self.handle_exit(signal.SIGTERM, None)


@contextmanager
def _without(message: str) -> Iterator[None]:
    """In it uvicorn does not log that."""

    def known(record: logging.LogRecord) -> bool:
        return record.getMessage() != message

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(known)
    try:
        yield
    finally:
        logger.removeFilter(known)


def summary(metrics: Metrics) -> str:
    """What a service has done, in a line."""
    reasons = {"full": "refused as the queue was full", "late": "waited too long", "left": "nobody waited for any more"}
    dropped = {words: metrics.total("dropped_total", reason=reason) for reason, words in reasons.items()}
    dropped["frames that a newer one replaced"] = metrics.total("dropped_total", reason="frame")
    dropped["bad"] = metrics.total("bad_total")
    done = (
        f"{counted(metrics.total('requests_total'), 'request')}, {counted(metrics.total('pictures_total'), 'picture')}"
    )
    return "; ".join([done, *(f"{number} {words}" for words, number in dropped.items() if number)])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, number)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(BACKLOG)
        except OSError:
            opened.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise KerbsegError(f"cannot listen at {host}:{port}: {why}; choose another --host or --port") from error
    return opened
