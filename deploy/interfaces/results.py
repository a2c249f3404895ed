"""What a generator returns for a generation request."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.jobs.job import JobProgress, Preview


@dataclass(frozen=True)
class GeneratedImage:
    """An encoded image, the influence masks of its subjects as PNG files, and the seconds that it took."""

    image: bytes
    masks: tuple[bytes, ...]
    seconds: float


@dataclass(frozen=True)
class GenerationResult:
    """The images of a request.

    Args:
        images: in the order of the request's seeds.
        timings: seconds by phase.
        notes: which parameters had no effect, and why.
        prompt: the prompt that was used; it differs from the request's where a subject's word was inserted.
        words: the subjects' words in that prompt.
        model_version: the version that generated the images.
    """

    images: list[GeneratedImage]
    timings: dict[str, float]
    notes: list[str] = field(default_factory=list)
    prompt: str = ""
    words: tuple[str, ...] = ()
    model_version: str = ""


#: An item of a generator's stream; the last one is the result.
GenerationEvent = JobProgress | Preview | GenerationResult
