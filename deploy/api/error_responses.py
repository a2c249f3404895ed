"""Errors in the envelope of OpenAI's interface: ``{"error": {message, type, param, code}}``.

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
from starlette.exceptions import HTTPException as StarletteHTTPException

from components.database import UNAVAILABLE
from components.errors import RealCustomError
from components.object_store import StoreUnavailableError
from deploy.interfaces.errors import describe_error

log = logging.getLogger(__name__)


class ApiError(HTTPException):
    """An error that a route or a middleware raises."""

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


def error_envelope(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error as JSON. Statuses 429 and 503 get a default Retry-After, which ``headers`` override."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    defaults = {"Retry-After": "5"} if status in (429, 503) else {}
    defaults |= {"X-Error-Code": code} if code else {}
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=defaults | dict(headers or {}))


def error_response(error: Exception, retry_after_s: int | None = None) -> JSONResponse:
    """The envelope of an `ApiError` or of an error that a part of the service has raised."""
    if isinstance(error, ApiError):
        return error_envelope(error.status_code, str(error.detail), error.param, error.code, error.headers)
    headers = None if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return error_envelope(*describe_error(error), headers)


def install_error_handlers(app: FastAPI, retry_after_s: Callable[[Exception], Awaitable[int | None]]) -> None:
    """Handle the expected errors of ``app``; `deploy.api.middleware.UnexpectedErrorMiddleware` handles all others.

    Args:
        retry_after_s: the Retry-After of an error that a part of the service has raised.
    """

    @app.exception_handler(StarletteHTTPException)
    async def http_error(_: Request, error: StarletteHTTPException) -> JSONResponse:
        if isinstance(error, ApiError):
            return error_response(error)
        return error_envelope(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def validation_error(_: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = field_name(first["loc"])
        message = f"{param or 'body'}: {first['msg'].removeprefix('Value error, ')}"
        return error_envelope(400, message, param, first["type"])

    @app.exception_handler(RealCustomError)
    async def service_error(_: Request, error: RealCustomError) -> JSONResponse:
        return error_response(error, await retry_after_s(error))

    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        log.error("%s: the database or the store does not answer: %s", request.scope["path"], type(error).__name__)
        return error_response(error)

    for kind in (*UNAVAILABLE, StoreUnavailableError):
        app.add_exception_handler(kind, unavailable)


def field_name(location: Sequence[Any]) -> str | None:
    """``("body", "characters", 0, "id")`` -> ``characters[0].id``; None for the body as a whole."""
    name = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".") or None
