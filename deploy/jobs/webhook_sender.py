"""Sends webhooks: a signed event at the end of a job, to origins that the configuration allows."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import httpx

from components.config import JobsConfig
from components.errors import ConfigError
from components.jobs.signing import read_secret, signed_headers
from components.jobs.webhook_queue import Message, WebhookQueue
from deploy.interfaces.responses import JobResponse
from deploy.interfaces.webhook_event import WebhookEvent, origin_allowed

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0


class WebhookSender:
    """Sends one queued webhook per call of `send_next`; calls may overlap.

    Raises:
        ConfigError: there is no usable key to sign with.
    """

    def __init__(self, queue: WebhookQueue, limits: JobsConfig) -> None:
        self._queue, self._limits = queue, limits
        self._secret = read_secret(_read(limits.webhook_secret))
        self._client = httpx.AsyncClient(follow_redirects=False)

    async def send_next(self) -> bool:
        """Send the next webhook; False if none is due."""
        message = await asyncio.to_thread(self._queue.take)
        if message is None:
            return False
        error = await self._send(message)
        if error is None:
            await asyncio.to_thread(self._queue.delivered, message)
        else:
            log.warning("job %s: webhook, attempt %d: %s", message.job.id, message.attempt, error)
            await asyncio.to_thread(self._queue.failed, message, error)
        return True

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self, message: Message) -> str | None:
        """Send a webhook and return the error, if any. Only the status of the response is read."""
        if not origin_allowed(message.url, self._limits.webhook_origins):
            return "this host is not allowed any more"
        now = int(time.time())
        job = JobResponse.of(message.job, self._limits.keep_s)
        event = WebhookEvent(type=f"job.{job.status}", timestamp=now, data=job)
        body = event.model_dump_json(exclude_none=True).encode()
        headers = signed_headers(self._secret, message.job.id, now, body) | {"content-type": "application/json"}
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("POST", message.url, content=body, headers=headers) as response,
            ):
                return None if response.is_success else f"answered with {response.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return type(error).__name__


def _read(secret: Path | None) -> str:
    try:
        return "" if secret is None else secret.read_text()
    except OSError as error:
        raise ConfigError(f"serving.jobs.webhook_secret: cannot be read: {error.strerror}") from None
