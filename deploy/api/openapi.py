"""The interface's document (OpenAPI), as it is: errors in their envelope, refusals, and the events of streams."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.api.error_statuses import error_statuses
from deploy.api.images.schema import CompletedImageEvent, PartialImageEvent

_SCHEMAS = "#/components/schemas/{model}"
#: What FastAPI says of wrong requests, which `deploy.api.error_responses` answers otherwise.
_FASTAPIS = ("HTTPValidationError", "ValidationError")

#: What stands before the routes may answer in their place: the first two where a key is to be sent.
_KEY_REFUSALS = {
    "401": "There is no key, or it is unknown, revoked or expired",
    "403": "The key has not the scope that this needs",
}
_REFUSALS_FOR_NOW = {
    "429": "That is too much for this key, or for what may be queued",
    "503": "The service is overloaded, or has just begun or ended",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until it is worth another try", "schema": {"type": "integer"}}}


class ErrorContent(BaseModel):
    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    #: The field at fault.
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """What every error looks like."""

    error: ErrorContent


def install_openapi(app: FastAPI) -> None:
    """Make ``app`` describe itself so; call it when all routes are there."""
    usual = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _corrected(usual())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name in _FASTAPIS:
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
            operation["responses"] |= _refusals(keyed, keyed or path.startswith("/v1/"), content)
            operation["responses"]["default"] = {"description": "An error"} | content
    return document


def _refusals(keyed: bool, limited: bool, content: dict[str, Any]) -> dict[str, Any]:
    """What an operation may answer that asks for a key, and that is refused where there is too much to do."""
    of_keys = {status: {"description": told} | content for status, told in _KEY_REFUSALS.items() if keyed}
    for_now = {
        status: {"description": told, "headers": _RETRY_AFTER} | content
        for status, told in _REFUSALS_FOR_NOW.items()
        if limited
    }
    return of_keys | for_now
