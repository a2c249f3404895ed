"""Requests to the engine, their phases and errors, and the interface of the pipeline that the engine uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from components.errors import RealCustomError
from components.model.control import Control
from components.model.generation_request import GenerationRequest, PromptOptions
from components.model.loras import LoraSet
from components.model.redraw import made_steps
from components.model.subjects import Subject

#: What a reference adds to the memory and time of an image, as a share of it. Keys and values of one take 0.24 GB in
#: the 70 layers of SDXL in 16 bits, about a tenth of what an image of its size takes. The picture of a control counts
#: as one, beyond the first.
REFERENCE_SHARE = 0.1
#: (width, height) in pixels.
Size = tuple[int, int]
#: What the requests of a U-Net call have in common: size and LoRAs.
LaneKey = tuple[Size, LoraSet]


@dataclass(frozen=True)
class Request:
    """One image to generate.

    Args:
        scheduler: a diffusers scheduler for this request alone; a copy of the pipeline's by default.
        owner: owners get equal shares of the engine.
        deadline: in seconds of the engine's clock (`time.monotonic`); a request that is not done by then expires.
        preview_every: every how many steps the progress has latents; 0 means never.
        references: reference images of all subjects together.
        options: further fields of `GenerationRequest`.
        image, mask_image: a picture of the request's size to redraw, and where (white); see `GenerationRequest`.

    The other fields are those of `components.model.generation_request.GenerationRequest`.
    """

    prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance_scale: float
    negative_prompt: str = ""
    subjects: tuple[Subject, ...] = ()
    mask_scope: float | None = None
    eta: float = 0.0
    scheduler: Any = None
    owner: str = ""
    deadline: float | None = None
    preview_every: int = 0
    image: Image.Image | None = None
    mask_image: Image.Image | None = None
    strength: float = 0.8
    loras: LoraSet = ()
    control: Control | None = None
    options: PromptOptions = field(default_factory=PromptOptions)
    references: int = 0

    @property
    def made_steps(self) -> int:
        """The steps that are made: a picture is redrawn in a share of them."""
        return self.steps if self.image is None else max(1, made_steps(self.steps, self.strength))

    @property
    def lane(self) -> LaneKey:
        """Requests of one lane may share a U-Net call."""
        return self.size, self.loras

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def load(self) -> int:
        """What it takes of the pixel budget, measured with one reference: pixels, and more for further pictures."""
        further = max(0, self.references - 1) + (self.control is not None)
        return round(self.pixels * (1 + REFERENCE_SHARE * further))

    @property
    def calls(self) -> int:
        """U-Net calls: schedulers of second order make two a step, but one in the last."""
        order: int = getattr(self.scheduler, "order", 1)
        return order * (self.made_steps - 1) + 1

    @property
    def cost(self) -> int:
        """Pixel-steps, of which every U-Net call counts one."""
        return self.pixels * self.calls


class Phase(StrEnum):
    """The phase of a request; `AFTER` has the phases that may follow each."""

    QUEUED = "queued"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return not AFTER[self]


_ENDED_EARLY = frozenset({Phase.CANCELLED, Phase.EXPIRED, Phase.FAILED})
AFTER: dict[Phase, frozenset[Phase]] = {
    Phase.QUEUED: _ENDED_EARLY | {Phase.ENCODING},
    Phase.ENCODING: _ENDED_EARLY | {Phase.DENOISING},
    Phase.DENOISING: _ENDED_EARLY | {Phase.DECODING},
    Phase.DECODING: _ENDED_EARLY | {Phase.DONE},
    Phase.DONE: frozenset(),
    Phase.CANCELLED: frozenset(),
    Phase.EXPIRED: frozenset(),
    Phase.FAILED: frozenset(),
}


class CancelledError(RealCustomError):
    """The request was cancelled."""


class ExpiredError(RealCustomError):
    """The request's deadline passed."""


class ClosedError(RealCustomError):
    """The engine is closed or closing."""


class StuckError(ClosedError):
    """The engine was given up while it worked on the request; ``alone`` if it worked on no other one."""

    def __init__(self, message: str, alone: bool) -> None:
        super().__init__(message, alone)
        self.alone = alone


class FullError(RealCustomError):
    """The queue has no room for the requests."""


class ExcessError(FullError):
    """The owner's own share of the queue has no room for the requests."""


@dataclass(frozen=True)
class StepProgress:
    """``step`` of ``total`` steps are done; ``latents`` [1, 4, h, w] are given in the steps of ``preview_every``."""

    step: int
    total: int
    latents: Tensor | None = None


class DenoisingState(Protocol):
    """Latents between noise and image (`components.model.denoising_state.DenoisingState`)."""

    latents: Tensor
    mask_history: list[Tensor]
    step: int

    @property
    def total(self) -> int: ...

    @property
    def done(self) -> bool: ...

    def step_input(self) -> Any: ...

    def advance(self, prediction: Any) -> None: ...


#: Inputs of one step -> their noise predictions, in one U-Net call (`components.model.batched_denoiser`).
Denoiser = Callable[[Sequence[Any]], Sequence[Any]]


class Output(Protocol):
    """Generated images and their masks (`components.model.pipeline.RealCustomOutput`)."""

    images: Any
    masks: Any


class Pipeline(Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that the engine uses.

    ``begin`` encodes a request, a denoiser predicts the noise of any states of one size in one U-Net call, and
    ``finish`` decodes. States are independent of each other; after a failed call the same inputs can be given again.
    """

    def begin(self, request: GenerationRequest) -> DenoisingState: ...

    def denoiser(self) -> Denoiser: ...

    def finish(self, state: Any) -> Output: ...
