"""The JSON of pictures: OpenAI's schema, and our extensions."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from deploy.schema import StrictRequest

MAX_CHARACTERS = 4
MAX_IMAGES = 10


class CharacterChoice(StrictRequest):
    """A character in a picture."""

    id: str
    #: By default the character's own.
    target_word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    #: Scales what the face (the rest) of the references contributes.
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)


class ImageRequest(StrictRequest):
    """``POST /v1/images/generations``."""

    prompt: str = Field(min_length=1, max_length=4000)
    model: str | None = None
    n: int = Field(1, ge=1, le=MAX_IMAGES)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    response_format: Literal["b64_json"] = "b64_json"
    user: str | None = Field(None, max_length=200)
    # Extensions
    characters: list[CharacterChoice] = Field([], max_length=MAX_CHARACTERS)
    negative_prompt: str = Field("", max_length=4000)
    seed: int | None = Field(None, ge=0, lt=2**32)
    steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=1, le=30)
    mask_scope: float | None = Field(None, gt=0, le=1)
    return_masks: bool = False


class ImageData(BaseModel):
    b64_json: str
    masks_b64_json: list[str] | None = None


class ImageResponse(BaseModel):
    created: int
    data: list[ImageData]
    model: str
    #: The first picture's; the others count up from it.
    seed: int
    target_words: list[str]
    timings: dict[str, float]
    #: What was asked for and had no effect.
    notes: list[str]
