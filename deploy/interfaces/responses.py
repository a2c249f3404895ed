"""The JSON of results: the response with images, and a job's state."""

from __future__ import annotations

import base64
import time
from typing import Literal

from pydantic import BaseModel

from components.jobs.job import Job, State
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GeneratedImage, GenerationResult


class ImageData(BaseModel):
    b64_json: str
    #: The prompt that was used, if it differs from the request's.
    revised_prompt: str | None = None
    masks_b64_json: list[str] | None = None


class ImageResponse(BaseModel):
    created: int
    data: list[ImageData]
    background: Literal["opaque"] = "opaque"
    output_format: Literal["png", "jpeg", "webp"] = "png"
    size: str = ""
    model: str
    #: The version in the model registry that generated the images.
    model_version: str = ""
    #: The first image's; the seeds of the others count up from it.
    seed: int
    target_words: list[str]
    timings: dict[str, float]
    #: Which parameters had no effect, and why.
    notes: list[str]


class JobProgress(BaseModel):
    #: Denoising steps of all images together.
    step: int
    total: int
    pictures_done: int
    pictures: int


class JobError(BaseModel):
    message: str
    param: str | None = None
    code: str | None = None


class JobWebhook(BaseModel):
    url: str
    #: ``waiting`` until the job has ended, then ``pending``, ``delivered`` or ``failed``.
    state: str
    attempts: int
    error: str | None = None


class JobResponse(BaseModel):
    id: str
    object: Literal["job"] = "job"
    status: State
    created: int
    started: int | None = None
    ended: int | None = None
    #: When the job will be deleted.
    expires: int | None = None
    attempts: int
    #: The job was cancelled and ends at its next step.
    cancelling: bool
    progress: JobProgress
    error: JobError | None = None
    webhook: JobWebhook | None = None
    result: ImageResponse | None = None

    @classmethod
    def of(cls, job: Job, keep_s: float, result: ImageResponse | None = None) -> JobResponse:
        """The job's state; it is deleted ``keep_s`` seconds after its end."""
        return cls(
            id=job.id,
            status=job.state,
            created=int(job.created),
            started=None if job.started is None else int(job.started),
            ended=None if job.ended is None else int(job.ended),
            expires=None if job.ended is None else int(job.ended + keep_s),
            attempts=job.attempts,
            cancelling=job.cancelling,
            progress=JobProgress(**vars(job.progress)),
            error=None if job.error is None else JobError(**job.error),
            webhook=None if job.webhook is None else JobWebhook(**vars(job.webhook)),
            result=result,
        )


def image_response(
    request: GenerationRequest,
    result: GenerationResult,
    model: str,
    return_masks: bool,
    total_s: float,
    client_prompt: str | None = None,
) -> ImageResponse:
    """The response to a request; ``total_s`` is its whole duration.

    Args:
        client_prompt: the prompt as the client sent it; if another one was used, the response contains that one.
    """
    return ImageResponse(
        created=int(time.time()),
        data=[_image_data(image, return_masks, revised_prompt(result, client_prompt)) for image in result.images],
        output_format=request.output.format,
        size=f"{request.width}x{request.height}",
        model=model,
        model_version=result.model_version,
        seed=request.seeds[0],
        target_words=list(result.words),
        timings=result.timings | {"total_s": total_s},
        notes=result.notes,
    )


def revised_prompt(result: GenerationResult, client_prompt: str | None) -> str | None:
    """The prompt that was used, if it differs from the one that the client sent."""
    return None if client_prompt is None or result.prompt in ("", client_prompt) else result.prompt


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _image_data(generated: GeneratedImage, return_masks: bool, prompt: str | None) -> ImageData:
    masks = [to_base64(mask) for mask in generated.masks] if return_masks else None
    return ImageData(b64_json=to_base64(generated.image), revised_prompt=prompt, masks_b64_json=masks)
