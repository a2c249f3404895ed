"""Webhooks: which URLs may be called, and the event that is sent to them."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel

from deploy.interfaces.responses import JobResponse


class WebhookEvent(BaseModel):
    """The body of a webhook: ``job.done``, ``job.failed`` or ``job.cancelled``, without the job's result."""

    type: str
    timestamp: int
    data: JobResponse


def origin_allowed(url: str, origins: tuple[str, ...]) -> bool:
    """Whether the scheme, host and port of ``url`` equal one of ``origins``."""
    try:
        parts = urlsplit(url)
    except ValueError:  # malformed IPv6 address
        return False
    return f"{parts.scheme}://{parts.netloc}".lower() in {origin.lower() for origin in origins}
