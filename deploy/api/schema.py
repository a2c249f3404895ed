"""What the JSON of all parts of the HTTP interface has in common."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator


def decode_base64(value: Any) -> Any:
    """Bytes of base64 or of a base64 data URL; what is no text stays."""
    if not isinstance(value, str):
        return value
    if value[:8].lower().startswith(("http://", "https://")):
        raise ValueError("must be the picture itself, in base64 or as a base64 data URL: nothing is fetched")
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except binascii.Error:
        raise ValueError("must be base64 or a base64 data URL") from None


def decode_json(value: Any) -> Any:
    """What a form field holds as JSON; what is no text stays."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("must be a JSON list") from None


class StrictRequest(BaseModel):
    """A body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _without_nul(cls, value: Any) -> Any:
        """No database of ours keeps it in a text."""
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not hold the character NUL")
        return value


class ServedVersion(BaseModel):
    """A version that generators have loaded."""

    version: str
    #: ``champion`` draws, ``challenger`` draws a share, ``kept`` waits for a way back.
    role: Literal["challenger", "champion", "kept"]
    replicas: int


class ModelResponse(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    owned_by: Literal["realcustom"] = "realcustom"
    #: The version in the model registry that is served.
    version: str
    #: All that are loaded by now.
    versions: list[ServedVersion] = []


class ModelPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelResponse]
