"""Completes FastAPI's OpenAPI document: the error envelope, refusals by middleware, and the events of streams."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.api.images.schema import CompletedImageEvent, PartialImageEvent
from deploy.api.openapi_statuses import error_statuses

_SCHEMAS = "#/components/schemas/{model}"
#: FastAPI's schemas of validation errors, which `deploy.api.error_responses` replaces.
_UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")

#: Responses of middleware: those of operations that need a key, and those of all operations but health checks.
_KEY_RESPONSES = {
    "401": "The key is missing, unknown, revoked or expired",
    "403": "The key lacks the required scope",
}
_RETRY_RESPONSES = {
    "429": "A limit of the key or of the queue is reached",
    "503": "The service is overloaded, starting or stopping",
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds after which a retry may succeed", "schema": {"type": "integer"}}
}


class ErrorContent(BaseModel):
    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    #: The field at fault.
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """The body of every error."""

    error: ErrorContent


def install_openapi(app: FastAPI) -> None:
    """Replace ``app.openapi``; call it after all routes were added."""
    fastapi_document = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(fastapi_document())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in _UNUSED_SCHEMAS:
        schemas.pop(name, None)
    models = (ErrorResponse, PartialImageEvent, CompletedImageEvent)
    _, defined = models_json_schema([(model, "serialization") for model in models], ref_template=_SCHEMAS)
    schemas.update(defined["$defs"])
    error = {"schema": {"$ref": _SCHEMAS.format(model="ErrorResponse")}}
    content = {"content": {"application/json": error}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            found = error_statuses(method, path, operation)
            operation["responses"] |= {status: {"description": told} | content for status, told in found.items()}
            keyed = "security" in operation
            operation["responses"] |= _middleware_responses(keyed, keyed or path.startswith("/v1/"), content)
            operation["responses"]["default"] = {"description": "An error"} | content
    return document


def _middleware_responses(keyed: bool, limited: bool, content: dict[str, Any]) -> dict[str, Any]:
    """The responses of an operation that needs a key (``keyed``) or can be refused for overload (``limited``)."""
    key_responses = {status: {"description": text} | content for status, text in _KEY_RESPONSES.items() if keyed}
    retry_responses = {
        status: {"description": text, "headers": _RETRY_AFTER} | content
        for status, text in _RETRY_RESPONSES.items()
        if limited
    }
    return key_responses | retry_responses
