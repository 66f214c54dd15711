"""The addresses of the service: what FastAPI is told of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket

import kerbseg
from kerbseg.core.errors import KerbsegError
from kerbseg.serve import frames, kserve
from kerbseg.serve.answers import PNG, PictureFacts, Wanted, WantedFacts
from kerbseg.serve.gate import Gate
from kerbseg.serve.jobs import Job
from kerbseg.serve.metrics import CONTENT_TYPE
from kerbseg.serve.page import page
from kerbseg.serve.refusals import BAD_REQUEST, DEFECT, OUR_DEFECT, Refusal, line_of, status_of
from kerbseg.serve.service import Service
from kerbseg.serve.uploads import MULTIPART, NAMELESS, read_uploads
from kerbseg.serve.waiting import answered, answered_one

logger = logging.getLogger(__name__)

HEADERS = ("authorization", "content-type", "inference-header-content-length", "x-api-key")  # that pages may send
BINARY = {"type": "string", "format": "binary"}


class ErrorAnswer(BaseModel):
    """Why there is no answer, in one line."""

    error: str


class ManyFacts(BaseModel):
    """What is said of each picture, in their order; `failed` of them could not be segmented."""

    pictures: list[PictureFacts | ErrorAnswer]
    failed: int


class WantedCard(BaseModel):
    """Whose card is asked for: the query of its address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="Name of the model; the first that is served without it")


class ServedFacts(BaseModel):
    """A model that is served."""

    name: str
    network: str
    labels: str
    classes: list[str]
    input_size: tuple[int, int]
    runtime: str
    device: str
    precision: str
    confidence: bool


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorAnswer, "description": "The request is not understood"},
    401: {"model": ErrorAnswer, "description": "The service asks for a key"},
    404: {"model": ErrorAnswer, "description": "No such model"},
    408: {"model": ErrorAnswer, "description": "The body came too slowly"},
    413: {"model": ErrorAnswer, "description": "The body is too large"},
    422: {"model": ErrorAnswer, "description": "The picture cannot be read or segmented"},
    429: {"model": ErrorAnswer, "description": "The queue is full; Retry-After says when to try again"},
    503: {"model": ErrorAnswer, "description": "The picture waited too long"},
}


def _form(*, many: bool) -> dict[str, Any]:
    """The body of a request, for the description of the service."""
    files = {"type": "array", "items": BINARY} if many else BINARY
    form = {"schema": {"type": "object", "properties": {NAMELESS: files}, "required": [NAMELESS]}}
    raw = {} if many else {"image/*": {"schema": BINARY}}
    return {"requestBody": {"required": True, "content": {MULTIPART: form, **raw}}}


class _Described(FastAPI):
    """An application whose description leaves out the answer 422 that FastAPI writes and ours does not give (400)."""

    def openapi(self) -> dict[str, Any]:
        """The description."""
        description: dict[str, Any] = super().openapi()
        for methods in description["paths"].values():
            for operation in methods.values():
                if operation["responses"].get("422", {}).get("description") == "Validation Error":
                    del operation["responses"]["422"]
        return description


def create_app(service: Service, keys: Sequence[str] = (), origins: Sequence[str] = ()) -> FastAPI:
    """The application of a service that was started.

    With `keys`, requests need one of them; pages of `origins` (such as https://example.org, or *) may call it from a
    browser.
    """
    app = _Described(
        title="kerbseg",
        version=kerbseg.__version__,
        summary="Names every pixel of street pictures.",
        docs_url=None,  # FastAPI's own pages ask other servers for their scripts
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    _add_pictures(app, service)
    _add_facts(app, service)
    app.include_router(kserve.router(service, ERRORS))
    app.include_router(frames.router(service))
    _add_errors(app)
    app.add_middleware(Gate, metrics=service.metrics, keys=keys, origins=origins)
    if origins:
        exposed = ("retry-after", "inference-header-content-length")
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_headers=HEADERS, allow_methods=["GET", "POST"],
            expose_headers=exposed,
        )  # fmt: skip
    return app


def _add_pictures(app: FastAPI, service: Service) -> None:
    one = {200: {"model": PictureFacts, "content": {PNG: {"schema": BINARY}}, "description": "The answer"}}

    @app.post("/v1/segment", responses=one | ERRORS, openapi_extra=_form(many=False), tags=["pictures"])
    async def segment(request: Request, wanted: Annotated[Wanted, Query()]) -> Response:
        """Segment a picture: a file of a form, or the body itself."""
        model = service.model(wanted.model).name
        uploads = await read_uploads(request, service.limits)
        if len(uploads) > 1:
            raise Refusal(BAD_REQUEST, f"the form holds {len(uploads)} files; send one, or all to /v1/segment_batch")
        read = partial(uploads[0].read, service.limits)
        job = Job(model, read, partial(wanted.of, model=model), wanted.needs_confidence)
        return Response(await answered_one(request, service, job), media_type=wanted.media_type)

    many = {200: {"model": ManyFacts, "description": "The answers"}}

    @app.post("/v1/segment_batch", responses=many | ERRORS, openapi_extra=_form(many=True), tags=["pictures"])
    async def segment_batch(request: Request, wanted: Annotated[WantedFacts, Query()]) -> Response:
        """Segment all files of a form; one that cannot be read ends nothing, and has its error in its place."""
        model = service.model(wanted.model).name
        uploads = await read_uploads(request, service.limits)
        finish = partial(wanted.facts, model=model)
        jobs = [Job(model, partial(each.read, service.limits), finish, wanted.confidence) for each in uploads]
        outcomes = await answered(request, service, jobs)
        failed = sum(isinstance(each, BaseException) for each in outcomes)
        pictures = [{"error": line_of(each)} if isinstance(each, BaseException) else each for each in outcomes]
        return JSONResponse({"pictures": pictures, "failed": failed})


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", responses={401: ERRORS[401]}, tags=["models"])
    async def models() -> list[ServedFacts]:
        """The models that are served; the first is meant where a request names none."""
        return [ServedFacts(**model.to_dict()) for model in service.models.values()]

    @app.get("/v1/card", responses={each: ERRORS[each] for each in (400, 401, 404)}, tags=["models"])
    async def card(wanted: Annotated[WantedCard, Query()]) -> dict[str, Any]:
        """The card of a model: classes, colors, preprocessing, recipe, figures with their protocol."""
        return service.model(wanted.model).card_dict()

    @app.get("/health", tags=["service"])
    async def health() -> dict[str, str]:
        """Answers where the service takes pictures."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: ERRORS[401]}, tags=["service"])
    async def metrics() -> Response:
        """Counts and times, as Prometheus reads them."""
        return Response(service.metrics_text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """This description as a page, with a form to try it."""
        return HTMLResponse(page(app.openapi()))


def _add_errors(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        status = status_of(error)
        if status is DEFECT and not isinstance(error, Refusal):  # those are logged where they happen
            logger.error("%s %s", request.method, request.url.path, exc_info=error)
        retry_after_s = getattr(error, "retry_after_s", None)
        return _error(status, line_of(error), {} if retry_after_s is None else {"Retry-After": str(retry_after_s)})

    async def not_understood(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _error(BAD_REQUEST, "; ".join(_complaint(each) for each in error.errors()))

    async def no_stream(socket: WebSocket, error: Exception) -> None:
        assert isinstance(error, WebSocketRequestValidationError)
        line = "; ".join(_complaint(each) for each in error.errors())
        await socket.send_denial_response(_error(BAD_REQUEST, line))

    async def not_there(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        what = f"{request.method} {request.url.path}: {error.detail}; /docs lists what there is"
        return _error(HTTPStatus(error.status_code), what, dict(error.headers or {}))

    async def left(request: Request, error: Exception) -> Response:
        return _error(BAD_REQUEST, "the client has left")  # which nobody reads

    async def defect(request: Request, error: Exception) -> Response:
        return _error(DEFECT, OUR_DEFECT)  # its traceback is logged where it is raised again

    for kind, handler in (
        (KerbsegError, refused),
        (RequestValidationError, not_understood),
        (HTTPException, not_there),
        (ClientDisconnect, left),
        (Exception, defect),
    ):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(WebSocketRequestValidationError, no_stream)


def _error(status: HTTPStatus, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": line}, status, headers)


def _complaint(error: dict[str, Any]) -> str:
    """What is wrong with a part of a request, in our words."""
    where = ".".join(str(each) for each in error["loc"][1:]) or "the request"
    if error["type"] == "extra_forbidden":
        return f"there is no {where!r}; /docs lists what there is"
    return f"{where}: {error['msg']}; found {str(error.get('input'))[:80]!r}"
