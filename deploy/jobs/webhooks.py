"""Sends webhooks: how a job ended, signed, to hosts that the configuration allows."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from components.config import JobsConfig
from components.errors import ConfigError
from components.jobs.signing import read_secret, signed_headers
from components.jobs.webhook_queue import Message, WebhookQueue
from deploy.api.jobs.schema import JobResponse, WebhookEvent

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0


def allowed(url: str, origins: tuple[str, ...]) -> bool:
    """Whether a URL's scheme, host and port are exactly one of ``origins``."""
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no address
        return False
    return f"{parts.scheme}://{parts.netloc}".lower() in {origin.lower() for origin in origins}


class WebhookSender:
    """Sends what an outbox holds, one at a time, as often as `turn` is called; calls may overlap.

    Raises:
        ConfigError: there is no usable key to sign with.
    """

    def __init__(self, outbox: WebhookQueue, limits: JobsConfig) -> None:
        self._outbox, self._limits = outbox, limits
        self._secret = read_secret(_read(limits.webhook_secret))
        self._client = httpx.AsyncClient(follow_redirects=False)

    async def turn(self) -> bool:
        """Send the next webhook; False if there was none to send."""
        message = await asyncio.to_thread(self._outbox.claim)
        if message is None:
            return False
        error = await self._send(message)
        if error is None:
            await asyncio.to_thread(self._outbox.delivered, message)
        else:
            log.warning("job %s: webhook, attempt %d: %s", message.job.id, message.attempt, error)
            await asyncio.to_thread(self._outbox.failed, message, error)
        return True

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, message: Message) -> str | None:
        """What went wrong, if anything did. Of the answer only the status is looked at."""
        if not allowed(message.url, self._limits.webhook_origins):
            return "this host is not allowed any more"
        now = int(time.time())
        job = JobResponse.of(message.job, self._limits.keep_s)
        event = WebhookEvent(type=f"job.{job.status}", timestamp=now, data=job)
        body = event.model_dump_json(exclude_none=True).encode()
        headers = signed_headers(self._secret, message.job.id, now, body) | {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("POST", message.url, content=body, headers=headers) as answer,
            ):
                return None if answer.is_success else f"answered with {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return type(error).__name__


def _read(secret: Path | None) -> str:
    try:
        return "" if secret is None else secret.read_text()
    except OSError as error:
        raise ConfigError(f"serving.jobs.webhook_secret: cannot be read: {error.strerror}") from None
