"""The JSON of characters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from components.characters.naming import head_noun
from components.characters.store import Character
from components.data.schema import Box
from deploy.schema import StrictRequest, decode_base64, decode_json

MAX_PICTURES = 4


class CharacterRequest(StrictRequest):
    """``POST /v1/characters``: as JSON, or as a form with the same fields and files."""

    name: str = Field(min_length=1, max_length=100)
    description: str = Field("", max_length=1000)
    #: By default the description's head noun.
    target_word: str = Field("", max_length=64, validate_default=True)
    pictures: list[Annotated[bytes, BeforeValidator(decode_base64)]] = Field(min_length=1, max_length=MAX_PICTURES)
    #: Where the face is on each picture: x0, y0, x1, y1 in its pixels, or null. In a form, as JSON.
    faces: Annotated[list[Box | None], BeforeValidator(decode_json)] = Field([], max_length=MAX_PICTURES)

    @field_validator("target_word")
    @classmethod
    def _default_word(cls, word: str, info: ValidationInfo) -> str:
        word = word or head_noun(info.data.get("description", "")) or ""
        if not any(character.isalnum() for character in word):
            raise ValueError("give the word that stands for the character in a prompt, or a description that has it")
        return word


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
