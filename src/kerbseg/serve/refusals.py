"""Requests that are not answered: one line for each, and HTTP's status."""

from __future__ import annotations

from http import HTTPStatus

from kerbseg.core.errors import DataError, InputError, KerbsegError, MissingExtra
from kerbseg.runtime import IdsOnly

BAD_REQUEST = HTTPStatus.BAD_REQUEST
NO_KEY = HTTPStatus.UNAUTHORIZED
FORBIDDEN = HTTPStatus.FORBIDDEN
UNKNOWN = HTTPStatus.NOT_FOUND
TOO_SLOW = HTTPStatus.REQUEST_TIMEOUT
TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
BAD_PICTURE = HTTPStatus.UNPROCESSABLE_ENTITY
BUSY = HTTPStatus.TOO_MANY_REQUESTS
DEFECT = HTTPStatus.INTERNAL_SERVER_ERROR
CANNOT = HTTPStatus.NOT_IMPLEMENTED
LATE = HTTPStatus.SERVICE_UNAVAILABLE

OUR_DEFECT = "a defect of kerbseg, whose traceback stands in the log of the service; please report it"


class Refusal(KerbsegError):
    """Why a request is not answered; `status` is HTTP's, `retry_after_s` when another try makes sense."""

    def __init__(self, status: HTTPStatus, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


def status_of(error: BaseException) -> HTTPStatus:
    """HTTP's status for what went wrong with a picture or a request."""
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, MissingExtra):
        return CANNOT
    return BAD_PICTURE if isinstance(error, DataError | InputError | IdsOnly) else DEFECT


def line_of(error: BaseException) -> str:
    """The one line that is answered; what a defect says of itself is for the log alone."""
    return str(error) if isinstance(error, KerbsegError) else OUR_DEFECT
