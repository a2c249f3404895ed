"""Requests that the service's parts exchange: all defaults are filled in and all limits are checked."""

from __future__ import annotations

import base64
import operator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter

from components.model.redraw import made_steps
from components.model.schedulers import unet_calls
from components.provenance.image_files import Output

#: The content of a file; base64 in payloads of stored jobs.
Binary = Annotated[
    bytes,
    BeforeValidator(lambda value: base64.b64decode(value) if isinstance(value, str) else value),
    PlainSerializer(lambda value: base64.b64encode(value).decode("ascii"), when_used="json"),
]


@dataclass(frozen=True)
class StatedRegion:
    """Where the subject of an uploaded image is, as far as the client says so; a mask wins over a box.

    Args:
        box: x0, y0, x1, y1 in pixels of the upright image.
        mask: an image file of its size, white on the subject.
    """

    box: tuple[int, int, int, int] | None = None
    mask: bytes | None = None


@dataclass(frozen=True)
class UploadedSubject:
    """A subject whose images came with the request and are not stored.

    Args:
        cut_outs: PNG files of the subject on white.
        faces: the face box in each cut-out, x0, y0, x1, y1 in pixels, or None.
    """

    cut_outs: tuple[bytes, ...]
    faces: tuple[tuple[float, float, float, float] | None, ...]


@dataclass(frozen=True)
class UploadedPicture:
    """An image that came with the request: an upright RGB PNG, and its size in pixels."""

    png: bytes
    width: int
    height: int


@dataclass(frozen=True)
class StoredTake:
    """A take of a story, which is read when the request is executed."""

    story: str
    take: str


@dataclass(frozen=True)
class RequestedRedraw:
    """An image to redraw.

    Args:
        strength: share of the steps that are made, above 0, at most 1.
        mask: a PNG of its size, white where it is redrawn; None redraws all of it.
        picture: the image as PNG; empty until a ``take`` is read.
    """

    strength: float
    mask: Binary | None = None
    picture: Binary = b""
    take: StoredTake | None = None


@dataclass(frozen=True)
class RequestedControl:
    """A loaded ControlNet or T2I-Adapter, and what it follows; see `components.model.control.Control`.

    Args:
        picture: a PNG of the size of the images.
    """

    name: str
    picture: Binary
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class RequestedSubject:
    """A subject of a generation request: a stored character or an uploaded subject.

    Args:
        character: the character's id; empty for an uploaded subject.
        word: the word that stands for it in the prompt; empty for an uploaded subject whose word is to be detected.
        strength, face_strength, body_strength: scale its influence; 1 is normal, 0 is none.
        revision: of the character's images, if it was read just now; None makes caches ineffective.
    """

    character: str
    word: str
    strength: float = 1.0
    face_strength: float = 1.0
    body_strength: float = 1.0
    #: The alias is the key in payloads of stored jobs.
    uploaded: Annotated[UploadedSubject | None, Field(alias="shown")] = None
    revision: int | None = None


@dataclass(frozen=True)
class GenerationRequest:
    """A request for images of one prompt, one image a seed."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seeds: tuple[int, ...]
    subjects: tuple[RequestedSubject, ...]
    #: Share of the image that a subject may influence; None is the model's default.
    mask_scope: float | None
    #: Owners share a generator's capacity evenly.
    owner: str = ""
    #: Time limit in seconds; None is the generator's own limit.
    timeout_s: float | None = None
    #: A name in `components.model.schedulers`; None is the model's own scheduler.
    scheduler: str | None = None
    output: Output = field(default_factory=Output)
    #: Notes for the response about parameters that have no effect.
    notes: tuple[str, ...] = ()
    # What follows is stored only where it is set: earlier releases refuse what they do not know.
    #: See `components.model.generation_request.PromptOptions`.
    prompt_options: Annotated[dict[str, Any], Field(exclude_if=operator.not_)] = field(default_factory=dict)
    #: An image to redraw; None generates one from noise.
    redraw: Annotated[RequestedRedraw | None, Field(exclude_if=operator.not_)] = None
    #: Names and weights of LoRAs.
    loras: Annotated[tuple[tuple[str, float], ...], Field(exclude_if=operator.not_)] = ()
    control: Annotated[RequestedControl | None, Field(exclude_if=operator.not_)] = None

    @property
    def made_steps(self) -> int:
        """The steps of one image that are made: an image is redrawn in a share of them."""
        return self.steps if self.redraw is None else made_steps(self.steps, self.redraw.strength)

    @property
    def unet_calls(self) -> int:
        """U-Net calls of one image."""
        return unet_calls(self.scheduler, self.made_steps)

    @property
    def pixel_steps(self) -> int:
        """Width x height x calls of the U-Net of all images."""
        return self.width * self.height * self.unet_calls * len(self.seeds)

    def without_revisions(self) -> GenerationRequest:
        """A copy that can be stored: when it is executed, its characters may have changed."""
        return replace(self, subjects=tuple(replace(subject, revision=None) for subject in self.subjects))


@dataclass(frozen=True)
class JobPayload:
    """What a job stores: the generation request, and what its response contains.

    Args:
        previews: number of previews of each image.
        model: the model's id in the response.
    """

    #: The alias is the key in payloads of stored jobs.
    request: Annotated[GenerationRequest, Field(alias="order")]
    return_masks: bool
    previews: int
    model: str

    def to_json(self) -> dict[str, Any]:
        return dict(TypeAdapter(JobPayload).dump_python(self, mode="json", by_alias=True))

    @staticmethod
    def from_json(payload: dict[str, Any]) -> JobPayload:
        """The inverse of `to_json`; raises `pydantic.ValidationError`."""
        return TypeAdapter(JobPayload).validate_python(payload)
