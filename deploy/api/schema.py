"""Schema that several resources share, and the schema of models."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator


def decode_base64(value: Any) -> Any:
    """Decode base64 or a base64 data URL; a value that is not a string is returned unchanged."""
    if not isinstance(value, str):
        return value
    if value[:8].lower().startswith(("http://", "https://")):
        raise ValueError("must be the picture itself, in base64 or as a base64 data URL: nothing is fetched")
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except binascii.Error:
        raise ValueError("must be base64 or a base64 data URL") from None


def decode_json(value: Any) -> Any:
    """Decode the JSON of a form field; a value that is not a string is returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("must be a JSON list") from None


def decode_boxes(value: Any) -> Any:
    """Decode boxes of a form: one field with a JSON list of boxes, or a field for each box, empty for none."""
    if isinstance(value, str):
        return decode_json(value)
    if not isinstance(value, list) or not any(isinstance(item, str) for item in value):
        return value
    decoded = [decode_json(item) if item else None for item in value]
    whole = len(decoded) == 1 and isinstance(decoded[0], list) and not all(_is_number(x) for x in decoded[0])
    return decoded[0] if whole else decoded


def decode_masks(value: Any) -> Any:
    """Decode masks: base64 in JSON, files in a form; an empty one is none."""
    if not isinstance(value, list):
        return value
    return [decode_base64(item) if item else None for item in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


class StrictRequest(BaseModel):
    """Base class of request bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, sent: Any) -> Any:
        """Leave one unknown field of thousands: an error is built for each, and one is told."""
        if not isinstance(sent, dict) or len(sent) <= len(cls.model_fields):
            return sent
        known = cls.model_fields.keys() | {field.alias for field in cls.model_fields.values()}
        unknown = next((key for key in sent if key not in known), None)
        return {key: value for key, value in sent.items() if key in known or key == unknown}

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        """PostgreSQL cannot store it in text columns."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain the character NUL")
        return value


class ServedVersion(BaseModel):
    """A model version that generators have loaded."""

    version: str
    #: ``champion`` is served, ``challenger`` gets a share of the requests, ``kept`` stays loaded for a rollback.
    role: Literal["challenger", "champion", "kept"]
    replicas: int


class ModelResponse(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    owned_by: Literal["realcustom"] = "realcustom"
    #: The served version in the model registry.
    version: str
    #: All loaded versions.
    versions: list[ServedVersion] = []
    #: Names that ``loras`` and ``control`` of requests take (``model.loras`` and ``model.controls``).
    loras: list[str] = []
    controls: list[str] = []


class ModelPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelResponse]
