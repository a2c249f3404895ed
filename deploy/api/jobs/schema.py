"""The JSON of jobs; `deploy.interfaces.responses` has a job's state."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from deploy.api.images.schema import ImageRequest
from deploy.api.schema import StrictRequest
from deploy.interfaces.responses import JobResponse


class WebhookTarget(StrictRequest):
    """Where the event at the job's end is sent."""

    url: str = Field(max_length=2000, pattern=r"^https?://[\x21-\x7e]+$")


class JobRequest(ImageRequest):
    """``POST /v1/jobs``: the fields of ``POST /v1/images/generations``, and those of jobs."""

    #: Progress is streamed by ``/v1/jobs/<id>/events``.
    stream: Literal[False] = False
    #: Previews of each image in ``/v1/jobs/<id>/events``.
    partial_images: int = Field(3, ge=0, le=10)
    webhook: WebhookTarget | None = None


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
    #: Index of the image, and the number of its steps so far.
    picture: int
    step: int
    #: A small PNG.
    b64_json: str
