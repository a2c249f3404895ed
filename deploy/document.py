"""The interface's document (OpenAPI), as it is: errors in their envelope, and the events of streams."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.image_schema import CompletedImageEvent, PartialImageEvent

_SCHEMAS = "#/components/schemas/{model}"
#: What FastAPI says of wrong requests, which `deploy.envelope` answers otherwise.
_FASTAPIS = ("HTTPValidationError", "ValidationError")


class ErrorContent(BaseModel):
    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    #: The field at fault.
    param: str | None
    code: str | None


class ErrorResponse(BaseModel):
    """What every error looks like."""

    error: ErrorContent


def install_document(app: FastAPI) -> None:
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
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "An error", "content": {"application/json": error}}
    return document
