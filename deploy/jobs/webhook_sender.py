"""Sends webhooks: a signed event at the end of a job, to origins that its owner may use.

Many are sent at the same time, few to one origin, and not all for one owner: receivers that do not answer delay only
their own webhooks, and their owner's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from components.config import JobsConfig
from components.errors import ConfigError
from components.jobs.signing import decode_secret, read_secrets, signed_headers
from components.jobs.webhook_queue import Message, WebhookQueue
from components.jobs.webhook_settings import WebhookRefusedError, WebhookSettings, WebhookSettingsStore, origin_allowed
from components.logs import amend
from deploy.background import in_database_thread
from deploy.interfaces.responses import JobResponse
from deploy.interfaces.webhook_event import WebhookEvent
from deploy.jobs.public_address import AddressError, resolve

log = logging.getLogger(__name__)
_TIMEOUT_S = 10.0
#: Webhooks that are sent at the same time: in all, for one owner, and to one origin.
_CONCURRENT, _PER_OWNER, _PER_ORIGIN = 64, 8, 2


class WebhookSender:
    """Sends the webhooks that are due; `run_next` begins one, and does not wait for its end.

    Raises:
        ConfigError: the file of the key that signs webhooks is not usable.
    """

    def __init__(self, queue: WebhookQueue, settings: WebhookSettingsStore, limits: JobsConfig) -> None:
        self._queue, self._settings, self._limits = queue, settings, limits
        self._shared_secrets = () if limits.webhook_secret is None else read_secrets(_read(limits.webhook_secret))
        # A connection is made for each webhook: one that is reused would have been verified for another host.
        self._client = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,  # a proxy would resolve the name again
            verify=httpx.create_ssl_context(),
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=_TIMEOUT_S,
        )
        self._resolvers = ThreadPoolExecutor(_CONCURRENT, thread_name_prefix="resolve")
        #: Origin and owner of the webhooks that are being sent.
        self._sending: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._sent = asyncio.Event()

    def check(self, url: str, owner: str) -> None:
        """Raise WebhookRefusedError if webhooks of ``owner`` may not go to ``url``."""
        if not self._allowed(url, self._settings.get(owner)):
            raise WebhookRefusedError("webhook.url: webhooks to this host are not allowed here")

    async def run_next(self) -> bool:
        """Begin to send the next webhook; False if none is due that can be sent now."""
        if len(self._sending) >= _CONCURRENT:
            return False
        origins = Counter(origin for origin, _ in self._sending.values())
        owners = Counter(owner for _, owner in self._sending.values() if owner)  # without keys everybody is ""
        busy = [origin for origin, count in origins.items() if count >= _PER_ORIGIN]
        busy_owners = [owner for owner, count in owners.items() if count >= _PER_OWNER]
        message = await in_database_thread(self._queue.claim, busy, busy_owners)
        if message is None:
            return False
        task = asyncio.create_task(self._deliver(message))
        self._sending[task] = message.origin, message.job.owner
        task.add_done_callback(self._end)
        return True

    async def wait(self, limit_s: float) -> None:
        """Wait until a webhook was sent, at most ``limit_s`` seconds."""
        self._sent.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._sent.wait(), limit_s)

    async def close(self) -> None:
        """Stop; what was being sent is sent again by another replica."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._client.aclose()
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._sent.set()
        if not task.cancelled() and (error := task.exception()):  # the claim expires, and it is sent again
            log.error("webhooks: %s", type(error).__name__)

    async def _deliver(self, message: Message) -> None:
        amend(job=message.job.id, owner=message.job.owner)
        error = await self._send(message)
        if error is None:
            await in_database_thread(self._queue.delivered, message)
        else:
            log.warning("job %s: webhook, attempt %d: %s", message.job.id, message.attempt, error)
            await in_database_thread(self._queue.failed, message, error)

    async def _send(self, message: Message) -> str | None:
        """Send a webhook and return the error, if any. Only the status of the response is read."""
        settings = await in_database_thread(self._settings.get, message.job.owner)
        if not self._allowed(message.url, settings):
            return "this host is not allowed any more"
        now = int(time.time())
        job = JobResponse.of(message.job, self._limits.keep_s)
        event = WebhookEvent(type=f"job.{job.status}", timestamp=now, data=job)
        body = event.model_dump_json(exclude_none=True).encode()
        keys = tuple(map(decode_secret, settings.secrets)) or self._shared_secrets
        headers = signed_headers(keys, message.job.id, now, body) | {"content-type": "application/json"}
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status = await self._post(httpx.URL(message.url), body, headers)
        except AddressError as error:
            return str(error)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return type(error).__name__
        return None if 200 <= status < 300 else f"answered with {status}"

    async def _post(self, url: httpx.URL, body: bytes, headers: dict[str, str]) -> int:
        """Post to an address of the URL's host that was checked, and return the status."""
        host = url.raw_host.decode()
        headers = headers | {"host": url.netloc.decode()}

        async def post(address: str) -> int:
            # The certificate is that of the host, not of the address.
            target, certified = url.copy_with(host=address), {"sni_hostname": host}
            async with self._client.stream(
                "POST", target, content=body, headers=headers, extensions=certified
            ) as answer:
                return answer.status_code

        look = partial(resolve, host, self._limits.webhook_private_hosts)
        *others, last = await asyncio.get_running_loop().run_in_executor(self._resolvers, look)
        for address in others:
            with suppress(httpx.ConnectError):
                return await post(address)
        return await post(last)

    def _allowed(self, url: str, settings: WebhookSettings) -> bool:
        return origin_allowed(url, (*self._limits.webhook_origins, *settings.origins))


def _read(secret: Path) -> str:
    try:
        return secret.read_text()
    except OSError as error:
        raise ConfigError(f"serving.jobs.webhook_secret: cannot be read: {error.strerror}") from None
