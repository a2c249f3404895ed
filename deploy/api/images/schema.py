"""The JSON of requests for images and of their events: OpenAI's schema and extensions.

`deploy.interfaces.responses` has the response.
"""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from components.data.schema import Box
from components.model.schedulers import NAMES
from deploy.api.images.control_request import OneControl, with_control_image
from deploy.api.images.lora_choices import Loras
from deploy.api.schema import StrictRequest, decode_boxes, decode_json, decode_masks
from deploy.interfaces.requests import StatedRegion

MAX_CHARACTERS = 4
MAX_IMAGES = 10
#: Seeds are below this; those of a request's further images count up from its own, and begin again at 0.
SEEDS = 2**32
MAX_PARTIAL_IMAGES = 3
MAX_REFERENCES = 4
#: Where the subject of each image is: left, top, right, bottom in pixels of the upright image, or null.
Boxes = Annotated[list[Box | None], BeforeValidator(decode_boxes), Field(max_length=MAX_REFERENCES)]
#: The subject of each image as an image of its size, white where the subject is, or null. A mask wins over a box.
Masks = Annotated[list[bytes | None], BeforeValidator(decode_masks), Field(max_length=MAX_REFERENCES)]


def _decoded(value: object) -> object:
    """A form's value: its JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("give two numbers in brackets, as [1024, 768]") from None


#: Two lengths in pixels.
Sides = Annotated[
    tuple[Annotated[int, Field(ge=0, le=16384)], Annotated[int, Field(ge=0, le=16384)]], BeforeValidator(_decoded)
]
#: Fields of a request that are fields of `components.model.generation_request.PromptOptions`.
PROMPT_OPTIONS = (
    "prompt_weighting",
    "clip_skip",
    "guidance_rescale",
    "original_size",
    "crops_coords_top_left",
    "target_size",
    "negative_original_size",
    "negative_crops_coords_top_left",
    "negative_target_size",
)


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
        raise ValueError("pictures are opaque: leave it out")
    return value


#: A field of OpenAI's interface that this service does not support.
Unsupported = Annotated[None, BeforeValidator(_unsupported)]


class CharacterChoice(StrictRequest):
    """A character that appears in the images."""

    id: str
    #: By default the character's own word.
    target_word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    #: Scales the influence of the face in the reference images; ``body_strength`` that of everything else.
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)


class BaseImageRequest(StrictRequest):
    """The fields that all requests for images have. A null stands for the default."""

    prompt: str = Field(min_length=1, max_length=4000)
    model: str | None = None
    n: int = Field(1, ge=1, le=MAX_IMAGES)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    response_format: Annotated[Literal["b64_json"], BeforeValidator(_no_urls)] = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    #: Quality of a JPEG or WebP, in per cent.
    output_compression: int = Field(100, ge=0, le=100)
    #: Respond with Server-Sent Events, with up to ``partial_images`` previews of each image.
    stream: bool = False
    partial_images: int = Field(0, ge=0, le=MAX_PARTIAL_IMAGES)
    background: Annotated[Literal["auto", "opaque"], BeforeValidator(_opaque)] = "auto"
    # Accepted, without effect
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
    seed: int | None = Field(None, ge=0, lt=SEEDS)
    steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=1, le=30)
    #: By default the model's own scheduler.
    sampler: Literal[NAMES] | None = None  # type: ignore[valid-type]
    #: Another name of ``sampler``.
    scheduler: Literal[NAMES] | None = None  # type: ignore[valid-type]
    #: Read ``(robot:1.3)`` as a weight, and prompts beyond the model's 75 tokens in chunks.
    prompt_weighting: bool = False
    #: Number of the text encoders' last layers to skip.
    clip_skip: int | None = Field(None, ge=0, le=30)
    guidance_rescale: float = Field(0, ge=0, le=1)
    #: SDXL's size conditioning, as in diffusers: (height, width) and (top, left); by default those of the image.
    original_size: Sides | None = None
    crops_coords_top_left: Sides | None = None
    target_size: Sides | None = None
    negative_original_size: Sides | None = None
    negative_crops_coords_top_left: Sides | None = None
    negative_target_size: Sides | None = None
    mask_scope: float | None = Field(None, gt=0, le=1)
    return_masks: bool = False
    loras: Loras = []
    control: OneControl = None

    @model_validator(mode="before")
    @classmethod
    def _nulls_are_defaults(cls, sent: Any) -> Any:
        """OpenAI's client sends null for an argument that is None."""
        if not isinstance(sent, dict):
            return sent
        return {key: value for key, value in sent.items() if value is not None or key not in cls.model_fields}

    @model_validator(mode="after")
    def _one_sampler(self) -> Self:
        if self.sampler is not None and self.scheduler not in (None, self.sampler):
            raise ValueError("sampler: scheduler is another name of this field; give one of them")
        return self

    @property
    def prompt_options(self) -> dict[str, Any]:
        """Those of `PROMPT_OPTIONS` that differ from their defaults."""
        return self.model_dump(include=set(PROMPT_OPTIONS), exclude_defaults=True)

    def notes(self) -> tuple[str, ...]:
        """Notes on fields that have no effect."""
        ignored = {
            "quality: use steps": self.quality != "auto",
            "moderation: this service has one policy": self.moderation != "auto",
            "style: describe it in the prompt": self.style is not None,
            "complexity: use steps": self.complexity is not None,
            "output_compression: PNG loses nothing": self.output_format == "png" and self.output_compression < 100,
        }
        return tuple(f"{note}; it has no effect" for note, sent in ignored.items() if sent)


class ImageRequest(BaseImageRequest):
    """``POST /v1/images/generations``. A prompt may name characters as ``@name`` or ``@"two words"``."""

    characters: list[CharacterChoice] = Field([], max_length=MAX_CHARACTERS)


class EditRequest(BaseImageRequest):
    """``POST /v1/images/edits``: images of one subject, which appears where the prompt contains its word.

    With ``mask`` or ``redraw_strength`` the first image is redrawn instead, with the subject of the other images and
    with characters, if there are any.
    """

    image: list[bytes] = Field(min_length=1, max_length=MAX_REFERENCES)
    boxes: Boxes = []
    masks: Masks = []
    #: By default detected from the images: a word of the prompt, or one that is inserted into it.
    target_word: str | None = Field(None, min_length=1, max_length=64)
    strength: float = Field(1, ge=0, le=2)
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)
    #: Of the first image, of its size: it is redrawn where this is transparent, and nothing else of it changes.
    mask: bytes | None = None
    #: Share of the steps that redraw the first image: near 0 it stays as it is, with 1 only what surrounds the mask.
    redraw_strength: float | None = Field(None, gt=0, le=1)
    #: Characters of an image that is redrawn, as in ``POST /v1/images/generations``; in a form, a JSON list.
    characters: Annotated[list[CharacterChoice], BeforeValidator(decode_json)] = Field([], max_length=MAX_CHARACTERS)
    #: The picture of ``control``, which is JSON with ``name``, ``scale``, ``start`` and ``end``.
    control_image: bytes | None = None
    # Accepted, without effect
    input_fidelity: Literal["low", "high"] | None = None
    # Refused
    markup: Unsupported = None

    @model_validator(mode="before")
    @classmethod
    def _control_of_form(cls, sent: Any) -> Any:
        return with_control_image(sent)

    @property
    def redraws(self) -> bool:
        """Whether the first image is redrawn."""
        return self.mask is not None or self.redraw_strength is not None

    def notes(self) -> tuple[str, ...]:
        ignored = self.input_fidelity is not None
        return super().notes() + (("input_fidelity: use strength; it has no effect",) if ignored else ())


def stated_regions(boxes: list[Box | None], masks: list[bytes | None]) -> list[StatedRegion]:
    """The boxes and masks of a request, by image."""
    return [StatedRegion(box, mask) for box, mask in zip_longest(boxes, masks)]


def edit_form_schema() -> dict[str, Any]:
    """The form of `EditRequest` for the OpenAPI document, without the fields that are refused."""
    schema = EditRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)  # other routes have them
    properties: dict[str, Any] = schema["properties"]
    for field in ("svg", "frame_count", "frame_duration_ms", "markup"):
        del properties[field]
    return schema


class _TokenDetails(BaseModel):
    image_tokens: int = 0
    text_tokens: int = 0


class Usage(BaseModel):
    """All zeros, for clients that require the fields: tokens are not counted."""

    input_tokens: int = 0
    input_tokens_details: _TokenDetails = _TokenDetails()
    output_tokens: int = 0
    total_tokens: int = 0


class ImageEvent(BaseModel):
    """The fields that all events have: OpenAI's, and ``picture``, the index of the image."""

    type: str
    b64_json: str
    background: Literal["opaque"] = "opaque"
    created_at: int
    output_format: Literal["png", "jpeg", "webp"]
    quality: Literal["auto"] = "auto"
    #: Of the finished image.
    size: str
    picture: int


class PartialImageEvent(ImageEvent):
    """``image_generation.partial_image`` or ``image_edit.partial_image``: a preview of an unfinished image."""

    #: Index of the preview among those of this image.
    partial_image_index: int
    step: int


class CompletedImageEvent(ImageEvent):
    """``image_generation.completed`` or ``image_edit.completed``: a finished image."""

    usage: Usage = Usage()
    revised_prompt: str | None = None
    masks_b64_json: list[str] | None = None
    model: str
    model_version: str
    #: This image's seed.
    seed: int
    target_words: list[str]
    timings: dict[str, float]
    notes: list[str]
