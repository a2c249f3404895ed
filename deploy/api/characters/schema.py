"""The JSON of characters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from components.characters.advice import Advice
from components.characters.candidates import Candidates
from components.characters.character import MAX_PICTURES, Character, Picture
from components.characters.target_word import Source
from components.data.schema import Box
from deploy.api.images.schema import MAX_IMAGES, Boxes, Masks
from deploy.api.schema import StrictRequest, decode_base64, decode_json


def _contains_letter(text: str) -> str:
    if text and not any(character.isalnum() for character in text):
        raise ValueError("give the word that stands for the character in a prompt")
    return text


Name = Annotated[str, Field(min_length=1, max_length=100)]
Description = Annotated[str, Field(max_length=1000)]
Word = Annotated[str, Field(max_length=64), AfterValidator(_contains_letter)]
Upload = Annotated[bytes, BeforeValidator(decode_base64)]
#: The face box of each image: x0, y0, x1, y1 in its pixels, or null. In a form, as JSON.
Faces = Annotated[list[Box | None], BeforeValidator(decode_json), Field(max_length=MAX_PICTURES)]


class CharacterRequest(StrictRequest):
    """``POST /v1/characters``: as JSON, or as a form with the same fields and files."""

    name: Name
    #: By default the candidates' prompt, or else proposed from the images: word, main colours, and what stands out.
    description: Description = ""
    #: By default the description's head noun.
    target_word: Word = ""
    #: The id of candidates (``POST /v1/characters/candidates``) and the index of one, instead of ``pictures``.
    candidates: str | None = Field(None, max_length=64)
    choice: int = Field(0, ge=0, lt=MAX_IMAGES)
    pictures: list[Upload] = Field([], max_length=MAX_PICTURES, validate_default=True)
    faces: Faces = []
    boxes: Boxes = []
    masks: Masks = []

    @field_validator("pictures")
    @classmethod
    def _one_source(cls, pictures: list[bytes], info: ValidationInfo) -> list[bytes]:
        if bool(pictures) == bool(info.data.get("candidates")):
            raise ValueError(f"send one to {MAX_PICTURES} pictures, or else the id of candidates")
        return pictures


class PicturesRequest(StrictRequest):
    """``POST /v1/characters/<id>/pictures``: as JSON, or as a form with the same fields and files."""

    pictures: list[Upload] = Field(min_length=1, max_length=MAX_PICTURES)
    faces: Faces = []
    boxes: Boxes = []
    masks: Masks = []


class CharacterChange(StrictRequest):
    """``PATCH /v1/characters/<id>``: the given fields are changed."""

    name: Name | None = None
    description: Description | None = None
    target_word: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_contains_letter)] | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> CharacterChange:
        if self.name is None and self.description is None and self.target_word is None:
            raise ValueError("give a name, a description or a target_word")
        return self


class CandidatesRequest(StrictRequest):
    """``POST /v1/characters/candidates``: the fields are those of ``POST /v1/images/generations``."""

    prompt: str = Field(min_length=1, max_length=1000)
    n: int = Field(4, ge=1, le=MAX_IMAGES)
    size: str = "auto"
    seed: int | None = None
    negative_prompt: str = ""
    steps: int | None = None
    guidance_scale: float | None = None


class AdviceResponse(BaseModel):
    """Quality of a reference image: the subject's longer side in pixels, and shares in [0, 1]."""

    subject_pixels: int
    subject_share: float
    sharpness: float
    background_clutter: float
    #: Null if faces are not detected.
    face_found: bool | None
    sentences: list[str]

    @classmethod
    def of(cls, advice: Advice) -> AdviceResponse:
        return cls(
            subject_pixels=advice.subject_pixels,
            subject_share=round(advice.subject_share, 4),
            sharpness=round(advice.sharpness, 4),
            background_clutter=round(advice.clutter, 4),
            face_found=advice.face_found,
            sentences=list(advice.sentences),
        )


class PictureResponse(BaseModel):
    id: str
    #: In pixels; null, like the advice, for images stored by an earlier release.
    width: int | None
    height: int | None
    face: Box | None
    advice: AdviceResponse | None
    #: Path of the cut-out that the model sees.
    cutout: str

    @classmethod
    def of(cls, picture: Picture, character: str) -> PictureResponse:
        advice = picture.advice
        return cls(
            id=picture.id,
            width=advice and advice.width,
            height=advice and advice.height,
            face=picture.face,
            advice=advice and AdviceResponse.of(advice),
            cutout=f"/v1/characters/{character}/pictures/{picture.id}/cutout.png",
        )


class CharacterResponse(BaseModel):
    id: str
    object: Literal["character"] = "character"
    created: int
    name: str
    description: str
    target_word: str
    #: Null for characters stored by an earlier release.
    word_source: Source | None
    pictures: list[PictureResponse]
    #: The sentences of all images' advice, without repetitions.
    advice: list[str]
    #: Path of the first image's cut-out.
    reference: str

    @classmethod
    def of(cls, character: Character) -> CharacterResponse:
        shown: dict[str, Any] = vars(character) | {
            "created": int(character.created),
            "pictures": [PictureResponse.of(picture, character.id) for picture in character.pictures],
            "reference": f"/v1/characters/{character.id}/reference.png",
        }
        return cls(**shown)


class CharacterPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[CharacterResponse]
    has_more: bool


class DeletedResponse(BaseModel):
    id: str
    object: Literal["character.deleted"] = "character.deleted"
    deleted: Literal[True] = True


class CandidateData(BaseModel):
    b64_json: str
    seed: int
    advice: AdviceResponse


class CandidatesResponse(BaseModel):
    """Until ``expires``, ``POST /v1/characters`` makes a character of one of them."""

    id: str
    object: Literal["character.candidates"] = "character.candidates"
    expires: int
    prompt: str
    data: list[CandidateData]

    @classmethod
    def of(cls, saved: Candidates, prompt: str, images: list[tuple[str, int]]) -> CandidatesResponse:
        """``images`` are base64 strings and seeds."""
        data = [
            CandidateData(b64_json=image, seed=seed, advice=AdviceResponse.of(advice))
            for (image, seed), advice in zip(images, saved.advice, strict=True)
        ]
        return cls(id=saved.id, expires=int(saved.expires), prompt=prompt, data=data)
