"""What the engine is asked for, what becomes of it, and what it asks of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from torch import Tensor

from components.errors import RealCustomError
from components.model.subjects import Subject

#: (width, height) in pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class Request:
    """One picture.

    Args:
        scheduler: of diffusers, an instance for this request alone; by default a copy of the pipeline's.
        owner: whom the picture is for; owners share the engine evenly.
        deadline: on the engine's clock (`time.monotonic`); a request that is not done by then expires.
        preview_every: progress carries latents in every such step; 0 never.

    The other fields are the arguments of `RealCustomPipeline`.
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

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def cost(self) -> int:
        """Pixel-steps."""
        return self.pixels * self.steps


class Phase(StrEnum):
    """Where a request is; `AFTER` says what may follow."""

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
    """The engine takes no more requests."""


class FullError(RealCustomError):
    """So many requests are queued that these are not taken."""


class ExcessError(FullError):
    """So many of the owner's own requests are queued that these are not taken."""


@dataclass(frozen=True)
class StepProgress:
    """After a step: ``step`` of ``total`` are done. ``latents`` [1, 4, h, w] are there where previews are wanted."""

    step: int
    total: int
    latents: Tensor | None = None


class DenoisingState(Protocol):
    """A picture in the making (`components.model.denoising_state.DenoisingState`)."""

    latents: Tensor
    step: int

    @property
    def total(self) -> int: ...

    @property
    def done(self) -> bool: ...

    def turn(self) -> Any: ...

    def take(self, prediction: Any) -> None: ...


class Output(Protocol):
    """Finished pictures and their masks (`components.model.pipeline.RealCustomOutput`)."""

    images: Any
    masks: Any


class Pipeline(Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that the engine uses.

    ``begin`` encodes a request, a crowd predicts the noise of any drafts of one size in one U-Net call, and ``finish``
    decodes. Drafts know nothing of each other; when a crowd's call fails, the same turns can be taken again.
    """

    def begin(self, prompt: str, **arguments: Any) -> DenoisingState: ...

    def crowd(self) -> Callable[[Sequence[Any]], Sequence[Any]]: ...

    def finish(self, draft: Any) -> Output: ...
