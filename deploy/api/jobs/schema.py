"""The JSON of jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from components.jobs.job import Job, State
from deploy.api.images.schema import ImageRequest, ImageResponse
from deploy.api.schema import StrictRequest


class WebhookTarget(StrictRequest):
    """Where the job's end is to be told."""

    url: str = Field(max_length=2000, pattern=r"^https?://[\x21-\x7e]+$")


class JobRequest(ImageRequest):
    """``POST /v1/jobs``: what ``POST /v1/images/generations`` takes, and what only a job can have."""

    #: What goes on is told by ``/events``.
    stream: Literal[False] = False
    #: Looks at each picture in the making that ``/events`` shows.
    partial_images: int = Field(3, ge=0, le=10)
    webhook: WebhookTarget | None = None


class JobProgress(BaseModel):
    #: Steps of all pictures together.
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
    #: ``waiting`` for the end, ``pending``, ``delivered`` or ``failed``.
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
    #: When it will be deleted.
    expires: int | None = None
    attempts: int
    #: It was cancelled and will end at its next step.
    cancelling: bool
    progress: JobProgress
    error: JobError | None = None
    webhook: JobWebhook | None = None
    result: ImageResponse | None = None

    @classmethod
    def of(cls, job: Job, keep_s: float, result: ImageResponse | None = None) -> JobResponse:
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


class JobPage(BaseModel):
    """Newest first, without results. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[JobResponse]
    has_more: bool


class DeletedJobResponse(BaseModel):
    id: str
    object: Literal["job.deleted"] = "job.deleted"
    deleted: Literal[True] = True


class PreviewEvent(BaseModel):
    #: Which of the job's pictures, and after how many of its steps.
    picture: int
    step: int
    #: A small PNG.
    b64_json: str


class WebhookEvent(BaseModel):
    """What a webhook is sent: ``job.done``, ``job.failed`` or ``job.cancelled``, without the result."""

    type: str
    timestamp: int
    data: JobResponse
