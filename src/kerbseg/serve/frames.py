"""Frames of a camera over a WebSocket: the newest first, or each in its turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Prediction
from kerbseg.serve.answers import Wanted
from kerbseg.serve.jobs import Job
from kerbseg.serve.refusals import line_of, status_of
from kerbseg.serve.service import Service
from kerbseg.serve.uploads import Upload

UNKNOWN_MODEL = 1008  # a policy is violated: the one of WebSocket's codes for a request that cannot be


class WantedFrames(Wanted):
    """What is wanted of a stream of pictures."""

    order: Literal["newest", "all"] = Field(
        "newest", description="newest: drop frames that come while one is worked on; all: let the sender wait"
    )


class Inbox:
    """The frames of a socket, one after the other; the sender waits, once the buffers between are full."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self.received = self.dropped = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """In it frames are taken."""
        yield

    async def take(self) -> bytes:
        """The next frame. Raises WebSocketDisconnect where there is none any more."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        self.received += 1
        return message.get("bytes") or (message.get("text") or "").encode()

    async def unless_left(self, answer: asyncio.Future[Any]) -> Any:
        """The answer to a frame in hand; of a sender that has left it is not known before it is answered."""
        return await answer


class NewestInbox(Inbox):
    """Reads frames as they come and keeps the newest until it is taken; those that it replaces are dropped."""

    _newest: bytes | None = None
    _end: WebSocketDisconnect | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """In it frames are read."""
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        try:
            yield
        finally:
            self._reader.cancel()

    async def _read(self) -> None:
        while self._end is None:
            try:
                frame = await super().take()
            except WebSocketDisconnect as end:
                self._end = end
            else:
                if self._newest is not None:
                    self.dropped += 1
                    self._service.metrics.count("dropped_total", reason="frame")
                self._newest = frame
            self._changed.set()

    async def take(self) -> bytes:
        """The newest frame; the last one too, where the sender has ended."""
        while self._newest is None:
            if self._end is not None:
                raise self._end
            self._changed.clear()
            await self._changed.wait()
        frame, self._newest = self._newest, None
        return frame

    async def unless_left(self, answer: asyncio.Future[Any]) -> Any:
        """The answer to a frame in hand. Raises WebSocketDisconnect where its sender has left, and needs none."""
        await asyncio.wait((answer, self._reader), return_when=asyncio.FIRST_COMPLETED)
        if self._end is not None:
            answer.cancel()
            raise self._end
        return await answer


def router(service: Service) -> APIRouter:
    """The address of frames."""
    routes = APIRouter()

    @routes.websocket("/v1/frames")
    async def frames(socket: WebSocket, wanted: Annotated[WantedFrames, Query()]) -> None:
        """Each binary message is a picture; see docs/serve.md for the answers."""
        await socket.accept()
        try:
            model = service.model(wanted.model).name
        except KerbsegError as error:
            await socket.send_text(json.dumps({"error": str(error)}))
            await socket.close(UNKNOWN_MODEL)
            return
        inbox = (NewestInbox if wanted.order == "newest" else Inbox)(socket, service)
        try:
            async with inbox.opened():
                while True:
                    content = await inbox.take()
                    counts = {"frame": inbox.received - 1, "dropped": inbox.dropped}
                    await _answer(socket, service, wanted, model, content, counts, inbox)
        except WebSocketDisconnect:
            pass  # how a stream ends

    return routes


async def _answer(
    socket: WebSocket,
    service: Service,
    wanted: WantedFrames,
    model: str,
    content: bytes,
    counts: dict[str, int],
    inbox: Inbox,
) -> None:
    """Sends a text with the counts and what is said in JSON, then the picture where one is wanted."""
    read = partial(Upload(f"frame {counts['frame']}", content).read, service.limits)
    job = Job(model, read, partial(_both, wanted, model), wanted.needs_confidence)
    try:
        service.submit([job])
        facts, picture = await inbox.unless_left(asyncio.wrap_future(job.future))
    except WebSocketDisconnect:
        raise
    except Exception as error:  # noqa: BLE001 # not swallowed: the sender is told, and goes on
        facts, picture = {"error": line_of(error), "status": int(status_of(error))}, None
    await socket.send_text(json.dumps({**counts, **facts}))
    if picture is not None:
        await socket.send_bytes(picture)


def _both(wanted: WantedFrames, model: str, prediction: Prediction) -> tuple[dict[str, Any], bytes | None]:
    if wanted.answer == "json":
        return wanted.facts(prediction, model), None
    return {"model": model, "size": list(prediction.ids.shape)}, wanted.of(prediction, model)
