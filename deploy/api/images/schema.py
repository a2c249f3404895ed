"""The JSON of pictures: OpenAI's schema, and our extensions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from components.model.schedulers import NAMES
from deploy.api.schema import StrictRequest

MAX_CHARACTERS = 4
MAX_IMAGES = 10
MAX_PARTIAL_IMAGES = 3


def _unsupported(value: object) -> object:
    if value is not None:
        raise ValueError("this field of OpenAI's interface is not supported here: leave it out")
    return value


def _no_urls(value: object) -> object:
    if value == "url":
        raise ValueError("pictures are sent as b64_json; there are no URLs of them")
    return value


def _opaque(value: object) -> object:
    if value == "transparent":
        raise ValueError("pictures are opaque; leave it out, or cut the subject out afterwards")
    return value


#: Fields of OpenAI's interface for which there is nothing here.
Unsupported = Annotated[None, BeforeValidator(_unsupported)]


class CharacterChoice(StrictRequest):
    """A character in a picture."""

    id: str
    #: By default the character's own.
    target_word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    #: Scales what the face (the rest) of the references contributes.
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)


class PictureRequest(StrictRequest):
    """What all requests for pictures may say. A null stands for the default."""

    prompt: str = Field(min_length=1, max_length=4000)
    model: str | None = None
    n: int = Field(1, ge=1, le=MAX_IMAGES)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    response_format: Annotated[Literal["b64_json"], BeforeValidator(_no_urls)] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    #: How much of a JPEG or WebP is kept, in per cent.
    output_compression: int = Field(100, ge=0, le=100)
    #: Server-Sent Events, with up to so many looks at each picture in the making.
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=MAX_PARTIAL_IMAGES)
    background: Annotated[Literal["auto", "opaque"], BeforeValidator(_opaque)] = "auto"
    # Accepted, and without effect
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] = "auto"
    moderation: Literal["auto", "low"] = "auto"
    style: Literal["vivid", "natural"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    user: str | None = Field(None, max_length=200)
    safety_identifier: str | None = Field(None, max_length=200)
    # Refused
    svg: Unsupported = None
    frame_count: Unsupported = None
    frame_duration_ms: Unsupported = None
    # Extensions
    negative_prompt: str = Field("", max_length=4000)
    seed: int | None = Field(None, ge=0, lt=2**32)
    steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=1, le=30)
    #: By default the model's own.
    scheduler: Literal[NAMES] | None = None  # type: ignore[valid-type]
    mask_scope: float | None = Field(None, gt=0, le=1)
    return_masks: bool = False

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_defaults(cls, sent: Any) -> Any:
        """As OpenAI's client sends what is given as None."""
        if not isinstance(sent, dict):
            return sent
        return {key: value for key, value in sent.items() if value is not None or key not in cls.model_fields}

    def notes(self) -> tuple[str, ...]:
        """What is asked for and has no effect."""
        without = {
            "quality: use steps": self.quality != "auto",
            "moderation: this service has one policy": self.moderation != "auto",
            "style: describe it in the prompt": self.style is not None,
            "complexity: use steps": self.complexity is not None,
            "output_compression: PNG loses nothing": self.output_format == "png" and self.output_compression < 100,
        }
        return tuple(f"{note}; it has no effect" for note, idle in without.items() if idle)


class ImageRequest(PictureRequest):
    """``POST /v1/images/generations``. A prompt may name characters as ``@name`` or ``@"two words"``."""

    characters: list[CharacterChoice] = Field([], max_length=MAX_CHARACTERS)


class ImageData(BaseModel):
    b64_json: str
    #: What was drawn, where it is not the prompt word for word.
    revised_prompt: str | None = None
    masks_b64_json: list[str] | None = None


class ImageResponse(BaseModel):
    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    size: str = ""
    model: str
    #: The version in the model registry that drew them.
    model_version: str = ""
    #: The first picture's; the others count up from it.
    seed: int
    target_words: list[str]
    timings: dict[str, float]
    #: What was asked for and had no effect.
    notes: list[str]


class _TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """Tokens are not counted here: all zeros, for clients that read them."""

    input_tokens: int = 0
    input_tokens_details: _TokenDetails = _TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class ImageEvent(BaseModel):
    """What events of a stream have in common: OpenAI's fields, and which picture it is (``picture`` of n)."""

    type: str
    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["auto"] = "auto"
    #: Of the finished picture.
    size: str
    picture: int


class PartialImageEvent(ImageEvent):
    """``image_generation.partial_image`` or ``image_edit.partial_image``: a small look at a picture in the making."""

    #: Counts this picture's looks from 0.
    partial_image_index: int
    step: int


class CompletedImageEvent(ImageEvent):
    """``image_generation.completed`` or ``image_edit.completed``: a finished picture."""

    usage: Usage = Usage()
    revised_prompt: str | None = None
    masks_b64_json: list[str] | None = None
    model: str
    model_version: str
    #: This picture's.
    seed: int
    target_words: list[str]
    timings: dict[str, float]
    notes: list[str]
