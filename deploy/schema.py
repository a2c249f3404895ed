"""The JSON of the HTTP interface. Images follow OpenAI's schema; characters and the last fields are extensions."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from components.characters.naming import head_noun
from components.characters.store import Character
from components.data.schema import Box

MAX_PICTURES = 4
MAX_CHARACTERS = 4
MAX_IMAGES = 10


def _decode_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except binascii.Error:
        raise ValueError("must be base64 or a base64 data URL") from None


def _decode_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError("must be a JSON list") from None


class StrictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class CharacterRequest(StrictRequest):
    """``POST /v1/characters``: as JSON, or as a form with the same fields and files."""

    name: str = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=1000)
    #: By default the description's head noun.
    target_word: str = Field("", max_length=64, validate_default=True)
    pictures: list[Annotated[bytes, BeforeValidator(_decode_base64)]] = Field(min_length=1, max_length=MAX_PICTURES)
    #: Where the face is on each picture: x0, y0, x1, y1 in its pixels, or null. In a form, as JSON.
    faces: Annotated[list[Box | None], BeforeValidator(_decode_json)] = Field([], max_length=MAX_PICTURES)

    @field_validator("target_word")
    @classmethod
    def _default_word(cls, word: str, info: ValidationInfo) -> str:
        word = word or head_noun(info.data.get("description", "")) or ""
        if not any(character.isalnum() for character in word):
            raise ValueError("give the word that stands for the character in a prompt, or a description that has it")
        return word


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


class CharacterResponse(BaseModel):
    id: str
    object: Literal["character"] = "character"
    created: int
    name: str
    description: str
    target_word: str
    pictures: int
    advice: list[str]
    #: Path of the first cut-out as the model sees it.
    reference: str

    @classmethod
    def of(cls, character: Character) -> CharacterResponse:
        return cls(
            **vars(character) | {"created": int(character.created)},
            reference=f"/v1/characters/{character.id}/reference.png",
        )


class CharacterPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[CharacterResponse]
    has_more: bool


class DeletedResponse(BaseModel):
    id: str
    object: Literal["character.deleted"] = "character.deleted"
    deleted: Literal[True] = True


class ModelResponse(BaseModel):
    id: str
    object: Literal["model"] = "model"
    owned_by: Literal["realcustom"] = "realcustom"
    #: The version in the model registry that is served.
    version: str


class ModelPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelResponse]
