"""The pictures in a request's body, read within the limits of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kerbseg.core.text import printable
from kerbseg.data.pictures import rgb_of
from kerbseg.serve.limits import Limits
from kerbseg.serve.refusals import BAD_REQUEST, TOO_LARGE, TOO_SLOW, Refusal

NAMELESS = "picture"  # what errors call one that came without a name
MULTIPART = "multipart/form-data"
MOST_FILES = 10_000  # of a form; how many may wait is said where they are to


@dataclass(frozen=True)
class Upload:
    """A picture as it came: the content of a file, and what that is called."""

    name: str
    content: bytes

    def read(self, limits: Limits) -> UInt8[np.ndarray, "h w 3"]:
        """Its pixels, as `kerbseg predict` reads a file. Raises DataError where it is damaged, foreign or too large."""
        return rgb_of(self.content, self.name, limits.pixels)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises Refusal for one that is too large, or comes too slowly."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.bytes:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise Refusal(TOO_SLOW, f"the body did not come within {limits.seconds:g} s; send it faster") from None
    return bytes(body)


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """The pictures of a form, or the body itself, which is one picture. Raises Refusal where there is none."""
    body = await read_body(request, limits)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MULTIPART:
        if not body:
            raise Refusal(BAD_REQUEST, "the body is empty; send a picture, as it is or in a form")
        return [Upload(NAMELESS, body)]
    parser = _Form(request.headers, _once(body), max_files=MOST_FILES, max_part_size=limits.bytes)
    parser.spool_max_size = limits.bytes + 1  # nothing is written to a disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:  # KeyError: no boundary is named
        raise Refusal(BAD_REQUEST, f"the form cannot be read ({_said(error)}); send multipart/form-data") from error
    if not parser.whole:
        raise Refusal(BAD_REQUEST, "the form was cut off: its closing boundary is missing; send all of it")
    parts = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile)]
    if not parts:
        raise Refusal(BAD_REQUEST, f"the form holds no file; send one, such as: curl -F {NAMELESS}=@street.jpg")
    return [Upload(_name(part.filename), await part.read()) for _, part in parts]


class _Form(MultiPartParser):
    """Notes whether the boundary came that closes a form; what stands before a missing one is left out without it."""

    whole = False

    def on_end(self) -> None:
        """Called by the parser behind that boundary."""
        self.whole = True


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _too_large(limits: Limits) -> Refusal:
    return Refusal(TOO_LARGE, f"the body is larger than {limits.megabytes:g} MB; send less, or a compressed picture")


def _name(filename: str | None) -> str:
    """A file's name without its folders, fit to be shown."""
    return printable(PurePosixPath((filename or "").replace("\\", "/")).name) or NAMELESS


def _said(error: Exception) -> str:
    return getattr(error, "message", "") or str(error).strip("'") or type(error).__name__
