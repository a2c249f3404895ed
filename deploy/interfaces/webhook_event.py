"""The event that a webhook sends."""

from __future__ import annotations

from pydantic import BaseModel

from deploy.interfaces.responses import JobResponse


class WebhookEvent(BaseModel):
    """The body of a webhook: ``job.done``, ``job.failed`` or ``job.cancelled``, without the job's result."""

    type: str
    timestamp: int
    data: JobResponse
