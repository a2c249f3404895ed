"""Errors as OpenAI's envelope ``{"error": {message, type, param, code}}``.

Messages name the field and never repeat its value.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException as StarletteHTTPException

from components.characters.candidates import CandidateNotFoundError
from components.characters.character import PictureCountError, PictureNotFoundError
from components.content import ContentError
from components.errors import DataError, NotFoundError, RealCustomError, WordError
from components.jobs.job import JobNotFoundError, KeyReusedError, QueueBusyError, QueueFullError
from components.stories.export.book import NothingToExportError
from components.stories.story import (
    OrderMismatchError,
    PanelNotFoundError,
    RevisionError,
    StoryLimitError,
    StoryNotFoundError,
    TakeNotFoundError,
)
from deploy.interfaces.protocols import BusyError, ExcessError, OrderError, UnavailableError

log = logging.getLogger(__name__)


class ApiError(HTTPException):
    """An error of the interface itself."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code


#: Status, param and code of errors from inside; the first that fits.
_INSIDE: dict[type[RealCustomError], tuple[int, str | None, str]] = {
    WordError: (400, "characters", "target_word_not_in_prompt"),
    DataError: (400, "pictures", "invalid_picture"),
    ContentError: (400, None, "content_policy"),
    JobNotFoundError: (404, None, "job_not_found"),
    CandidateNotFoundError: (404, "candidates", "candidates_not_found"),
    PictureNotFoundError: (404, None, "picture_not_found"),
    StoryNotFoundError: (404, None, "story_not_found"),
    PanelNotFoundError: (404, None, "panel_not_found"),
    TakeNotFoundError: (404, None, "take_not_found"),
    OrderMismatchError: (409, "panels", "order_mismatch"),
    RevisionError: (412, "If-Match", "revision_mismatch"),
    NothingToExportError: (409, None, "nothing_to_export"),
    StoryLimitError: (409, None, "limit_reached"),
    PictureCountError: (409, "pictures", "picture_count"),
    NotFoundError: (404, None, "character_not_found"),
    KeyReusedError: (409, "Idempotency-Key", "idempotency_key_reused"),
    QueueFullError: (429, None, "queue_full"),
    QueueBusyError: (503, None, "overloaded"),
    ExcessError: (429, None, "queue_full"),
    BusyError: (503, None, "overloaded"),
    UnavailableError: (503, None, "unavailable"),
}


def envelope(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error as JSON; a refusal for now has a guess of a Retry-After, where ``headers`` do not know better."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    guess = {"Retry-After": "5"} if status in (429, 503) else {}
    guess |= {"X-Error-Code": code} if code else {}
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=guess | dict(headers or {}))


def answer_to(error: Exception, retry_after_s: int | None = None) -> JSONResponse:
    """The envelope of an error of the interface or from inside, and when the same request may come back."""
    if isinstance(error, ApiError):
        return envelope(error.status_code, str(error.detail), error.param, error.code, error.headers)
    headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return envelope(*explain(error), headers)


def explain(error: Exception) -> tuple[int, str, str | None, str | None]:
    """How an error from inside is shown: status, message, param, code. What is not foreseen is not shown."""
    if isinstance(error, OrderError):
        return 400, str(error), error.param, "invalid_order"
    for kind, (status, param, code) in _INSIDE.items():
        if isinstance(error, kind):
            return status, str(error), param, code
    return 500, "internal error", None, None


def install_error_handlers(app: FastAPI, retry_after_s: Callable[[Exception], Awaitable[int | None]]) -> None:
    """Make every foreseen error of ``app`` an envelope; `deploy.api.middleware.HideErrors` sees to the others.

    Args:
        retry_after_s: when a request that an error from inside refuses may come back.
    """

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return answer_to(error)
        return envelope(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def invalid(_: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = field_name(first["loc"])
        return envelope(400, f"{param or 'body'}: {first['msg'].removeprefix('Value error, ')}", param, first["type"])

    @app.exception_handler(RealCustomError)
    async def inside(_: Request, error: RealCustomError) -> JSONResponse:
        return answer_to(error, await retry_after_s(error))

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    async def database(request: Request, error: Exception) -> JSONResponse:
        log.error("%s: the database does not answer: %s", request.scope["path"], type(error).__name__)
        return answer_to(UnavailableError("the database does not answer; try again"))


def field_name(location: Sequence[Any]) -> str | None:
    """``("body", "characters", 0, "id")`` -> ``characters[0].id``; none for the body as a whole."""
    name = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".") or None
