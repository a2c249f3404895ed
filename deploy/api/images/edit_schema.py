"""The form of one-step pictures: OpenAI's edits, and our extensions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from deploy.api.images.schema import PictureRequest, Unsupported

MAX_REFERENCES = 4


class EditRequest(PictureRequest):
    """``POST /v1/images/edits``: pictures of one subject, which is drawn where the prompt has its word."""

    image: list[bytes] = Field(min_length=1, max_length=MAX_REFERENCES)
    #: By default found by the pictures, in the prompt or for it.
    target_word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)
    # Accepted, and without effect
    input_fidelity: Literal["low", "high"] | None = None
    # Refused
    mask: Unsupported = None
    markup: Unsupported = None

    def notes(self) -> tuple[str, ...]:
        idle = self.input_fidelity is not None
        return super().notes() + (("input_fidelity: use strength; it has no effect",) if idle else ())


def form_schema() -> dict[str, Any]:
    """The form as the interface's document describes it."""
    schema = EditRequest.model_json_schema()
    properties: dict[str, Any] = schema["properties"]
    for field in ("svg", "frame_count", "frame_duration_ms", "mask", "markup"):
        del properties[field]
    return schema
