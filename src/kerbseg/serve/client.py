"""A client of the service, for Python: pictures go out, predictions come back."""

from __future__ import annotations

import base64
import io
import json
import secrets
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlencode, urlsplit

import numpy as np
from PIL import Image

from kerbseg.bundle_card import BundleCard
from kerbseg.core.errors import DataError, KerbsegError, MissingExtra
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import printable
from kerbseg.data.pictures import open_embedded, rgb_of
from kerbseg.predict import Prediction
from kerbseg.predict.sources.arrays import as_rgb

SendablePicture = str | Path | bytes | Image.Image | np.ndarray
"""A file's path or content, a PIL picture, or RGB pixels (uint8 [h w 3])."""

FORM = "picture"  # the field of a form with pictures


class ServiceError(KerbsegError):
    """The service does not answer, or refuses: its own line, and HTTP's `status` (None where there is no answer)."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class Client:
    """Asks a service at an address such as http://127.0.0.1:8000; safe from any number of threads.

    `key` is one that the service asks for. A service whose queue is full is asked again, when it says so, for at most
    `patience_s`; then, or with 0 at once, its refusal is raised. Every method raises ServiceError where the service
    cannot be reached, refuses, or is none of kerbseg. Raises KerbsegError for an address or a key that cannot be.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout_s: float = 60.0,
        patience_s: float = 0.0,
    ) -> None:
        self._place = _place(address)
        self.address = self._place.geturl()
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._headers = {} if key is None else {"X-API-Key": _checked_key(key)}
        self._free: deque[HTTPConnection] = deque()  # connections that nobody uses now
        self._labels: dict[str, LabelSet] = {}

    def segment(self, picture: SendablePicture, *, model: str | None = None, confidence: bool = False) -> Prediction:
        """What the service sees in a picture, as a `Predictor` gives it; confidence is rounded to 1/255.

        `model` is the name of a served one, the first without it. Raises DataError for a file that cannot be read,
        InputError for what is no picture.
        """
        content = _content(picture)
        query = _query(masks="png", confidence=confidence, model=model)
        answer = self._ask("POST", f"/v1/segment?{query}", content)
        with self._understood():
            return self._prediction(json.loads(answer), content)

    def segment_batch(
        self, pictures: Sequence[SendablePicture], *, model: str | None = None, confidence: bool = False
    ) -> list[Prediction | ServiceError]:
        """The same of several in one request; in the place of a picture that cannot be segmented stands its error."""
        if not pictures:
            return []
        contents = [_content(picture) for picture in pictures]
        body, kind = _form(contents, [_name(picture) for picture in pictures])
        query = _query(masks="png", confidence=confidence, model=model)
        answer = self._ask("POST", f"/v1/segment_batch?{query}", body, kind)
        with self._understood():
            return [
                ServiceError(facts["error"]) if "error" in facts else self._prediction(facts, content)
                for facts, content in zip(json.loads(answer)["pictures"], contents, strict=True)
            ]

    def draw(self, picture: SendablePicture, answer: str = "overlay", *, model: str | None = None) -> Image.Image:
        """The picture that the service draws: overlay, palette, color, side, ids or confidence."""
        content = self._ask("POST", f"/v1/segment?{_query(answer=answer, model=model)}", _content(picture))
        with self._understood(), open_embedded(content, "the answer") as image:
            return image.copy()

    def models(self) -> list[dict[str, Any]]:
        """The models that are served; the first is meant where none is named."""
        answer = self._ask("GET", "/v1/models")
        with self._understood():
            first, *others = json.loads(answer)  # a service has one at least
            return [dict(first), *map(dict, others)]

    def card(self, model: str | None = None) -> BundleCard:
        """The card of a model."""
        answer = self._ask("GET", f"/v1/card?{_query(model=model)}")
        with self._understood():
            return BundleCard.from_json(answer.decode(), self.address)

    def is_ready(self) -> bool:
        """Whether the service answers."""
        try:
            answer = self._ask("GET", "/health")
            with self._understood():
                return bool(json.loads(answer)["status"] == "ok")
        except ServiceError:
            return False

    @contextmanager
    def frames(
        self, *, order: Literal["newest", "all"] = "newest", model: str | None = None, confidence: bool = False
    ) -> Iterator[Frames]:
        """A stream of pictures, over one connection; needs websockets, which the extra `serve` brings.

        With `newest` the service drops those that come while it works on one; with `all` it answers each, in order.
        """
        try:
            from websockets.exceptions import InvalidStatus, WebSocketException
            from websockets.sync.client import connect
        except ImportError as error:
            raise MissingExtra("websockets", "serve") from error
        query = _query(order=order, masks="png", confidence=confidence, model=model)
        with ExitStack() as opened:
            try:
                socket = opened.enter_context(
                    connect(
                        f"ws{self.address.removeprefix('http')}/v1/frames?{query}",
                        additional_headers=self._headers,
                        open_timeout=self._timeout_s,
                        max_size=None,
                    )
                )
            except InvalidStatus as refusal:
                raise ServiceError(_error(refusal.response.body or b""), refusal.response.status_code) from refusal
            except (WebSocketException, OSError) as error:
                raise self._ended(error) from error
            yield Frames(socket, self, self._timeout_s)

    def _ended(self, error: BaseException) -> ServiceError:
        return ServiceError(f"the stream to {self.address} ended: {error or type(error).__name__}")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Within it an answer is taken apart; one of another kind than ours is an error of one line."""
        try:
            yield
        except ServiceError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, KerbsegError) as error:
            why = "does not answer as a service of kerbseg does; check the address"
            raise ServiceError(f"{self.address} {why}") from error

    def _prediction(self, facts: Mapping[str, Any], content: bytes) -> Prediction:
        ids = _pixels(facts["ids_png"])
        sure = None
        if "confidence_png" in facts:
            sure = _pixels(facts["confidence_png"]).astype(np.float32) / 255
        return Prediction(ids, self._labels_of(facts["model"]), sure, rgb_of(content, "the picture"))

    def _labels_of(self, model: str) -> LabelSet:
        if model not in self._labels:
            self._labels[model] = self.card(model).labels
        return self._labels[model]

    def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream") -> bytes:
        until_s = time.monotonic() + self._patience_s
        while True:
            try:
                return self._once(method, path, body, kind)
            except ServiceError as refusal:
                pause_s = refusal.retry_after_s
                if pause_s is None or time.monotonic() + pause_s > until_s:
                    raise
            time.sleep(pause_s)

    def _once(self, method: str, path: str, body: bytes, kind: str) -> bytes:
        headers = {**self._headers, "Content-Type": kind}
        try:
            connection = self._free.pop()
        except IndexError:
            connection = self._connection()
        try:
            try:
                answer = _answer(connection, method, self._place.path + path, body, headers)
            except (ConnectionError, HTTPException):  # one that was kept, and that the service has closed meanwhile
                connection.close()
                answer = _answer(connection, method, self._place.path + path, body, headers)
            content = answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise ServiceError(f"{self.address} does not answer: {error or type(error).__name__}") from error
        self._free.append(connection)
        if not 200 <= answer.status < 300:
            pause = answer.headers.get("Retry-After", "")
            raise ServiceError(_error(content), answer.status, float(pause) if pause.isdecimal() else None)
        return content

    def _connection(self) -> HTTPConnection:
        return _connection(self._place, self._timeout_s)

    def close(self) -> None:
        """Closes the connections that are kept."""
        while self._free:
            self._free.pop().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class FrameResult:
    """What came of a frame of a stream."""

    frame: int  # as they were sent, from 0
    dropped: int  # frames before it that a newer one replaced
    prediction: Prediction | None
    error: str | None  # why there is none


class Frames:
    """An open stream: frames are sent from one thread, results received in another, or in the same by turns."""

    def __init__(self, socket: Any, client: Client, timeout_s: float) -> None:
        self._socket, self._client, self._timeout_s = socket, client, timeout_s
        self._sent: dict[int, bytes] = {}
        self._count = 0

    def send(self, picture: SendablePicture) -> None:
        """Sends a frame."""
        content = _content(picture)
        self._sent[self._count] = content
        self._count += 1
        with self._open():
            self._socket.send(content)

    def receive(self) -> FrameResult:
        """The next result. Raises TimeoutError where none comes in the client's `timeout_s`."""
        with self._open():
            answer = self._socket.recv(timeout=self._timeout_s)
        with self._client._understood():
            facts = json.loads(answer)
            if "frame" not in facts:
                raise ServiceError(facts["error"])
            frame, dropped, error = facts["frame"], facts["dropped"], facts.get("error")
            content = self._sent[frame]
            for number in [each for each in list(self._sent) if each <= frame]:  # another thread may add to them
                del self._sent[number]
            prediction = None if error is not None else self._client._prediction(facts, content)
            return FrameResult(frame, dropped, prediction, error)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Within it the end of the stream is an error of one line."""
        from websockets.exceptions import WebSocketException

        try:
            yield
        except WebSocketException as error:
            raise self._client._ended(error) from error


def _place(address: str) -> SplitResult:
    """The parts of an address, without a / at its end. Raises KerbsegError for one that is none of a service."""
    try:
        place = urlsplit(address)
        place = place._replace(path=place.path.rstrip("/"))
        _connection(place, 0.0)  # which connects to nothing yet
        known = place.scheme in ("http", "https") and place.hostname
    except (ValueError, HTTPException):
        known = False
    if not known or place.username is not None or place.query or place.fragment:  # a password would stand in errors
        shown = address if "@" not in address else f"with a user's name ({address.partition('://')[0]}://...@...)"
        raise KerbsegError(f"address {shown!r} is none of a service; write http://HOST:PORT")
    return place


def _connection(place: SplitResult, timeout_s: float) -> HTTPConnection:
    kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
    return kind(place.hostname or "", place.port, timeout=timeout_s)


def _checked_key(key: str) -> str:
    """A key that a header can hold. Raises KerbsegError for another, which it does not show."""
    if not key.isascii() or not key.isprintable() or " " in key or not key:
        raise KerbsegError("the key is not of letters, digits and signs; take it as it stands in the service's --keys")
    return key


def _answer(
    connection: HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> HTTPResponse:
    connection.request(method, path, body or None, dict(headers))
    return connection.getresponse()


def _content(picture: SendablePicture) -> bytes:
    """The content of a file with the picture."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | Path):
        try:
            return Path(picture).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a character that no path has
            why = getattr(error, "strerror", None) or error
            raise DataError(f"{printable(str(picture))} cannot be read: {why}; check the path") from error
    content = io.BytesIO()
    Image.fromarray(as_rgb(picture)).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _name(picture: SendablePicture) -> str:
    return printable(Path(picture).name).replace('"', "%22") if isinstance(picture, str | Path) else FORM


def _form(contents: Sequence[bytes], names: Sequence[str]) -> tuple[bytes, str]:
    """A form of files, and its type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{FORM}"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in zip(names, contents, strict=True)
    ]
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _query(**asked: str | bool | None) -> str:
    known = {name: value for name, value in asked.items() if value is not None}
    return urlencode({name: str(value).lower() if isinstance(value, bool) else value for name, value in known.items()})


def _pixels(png: str) -> np.ndarray:
    with open_embedded(base64.b64decode(png), "an answer's PNG") as image:
        return np.asarray(image)


def _error(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:200] or "the service gives no reason"
