"""Idempotency keys of requests that are answered with images: a repeated request is charged once.

The answer is stored for an hour, and is what a repeated request gets, also when its characters are gone. After that, or
if the answer could not be stored, the images are generated again with the same seeds.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Annotated, Any, TypeVar

from fastapi import Header, Response

from components.access.limits import RequestId
from components.access.stored_answers import AnswerStore, StoredAnswer
from components.fingerprint import fingerprint
from components.object_store import StoreUnavailableError
from deploy.api.images.schema import SEEDS, BaseImageRequest
from deploy.background import in_database_thread, run_in_background

log = logging.getLogger(__name__)
Body = TypeVar("Body", bound=BaseImageRequest)

IdempotencyHeader = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, pattern=r"^[\x21-\x7e]+$")]
#: Seconds for which a response waits until it is stored; after that the storing goes on without it.
_STORE_WAIT_S = 5.0


async def repeatable(kind: str, body: Body, key: str | None, owner: str) -> tuple[Body, RequestId | None]:
    """The body with a seed that follows from ``key``, unless it has one, and the request's identity.

    Args:
        kind: distinguishes the routes of an owner that take equal bodies.
    """
    if key is None:
        return body, None
    digest = await asyncio.to_thread(lambda: fingerprint([kind, _hashable(body.model_dump(exclude_defaults=True))]))
    if body.seed is None:
        seed = int(fingerprint([owner, key])[:8], 16) % SEEDS
        body = body.model_copy(update={"seed": seed})
    return body, RequestId(key, digest)


class RepeatedRequest:
    """A request that may have been answered before; without an idempotency key, nothing is found or stored."""

    def __init__(self, answers: AnswerStore, owner: str, request: RequestId | None) -> None:
        self._answers, self._owner, self._request = answers, owner, request

    async def answer(self) -> Response | None:
        """The answer to the earlier request, if there is one. A store that does not answer has none.

        Raises:
            KeyReusedError: the key was used for another request.
        """
        if self._request is None:
            return None
        try:
            found = await in_database_thread(self._answers.find, self._owner, self._request)
        except StoreUnavailableError as error:
            log.error("answers: %s", type(error).__name__)
            return None
        if found is None:
            return None
        headers = {"Idempotent-Replayed": "true", "Cache-Control": "no-cache"}
        return Response(found.body, found.status, headers, media_type=found.media_type)

    async def store(self, body: bytes, media_type: str, status: int = 200) -> None:
        """Store an answer. It is sent also if it cannot be stored."""
        if self._request is None:
            return
        answer = StoredAnswer(body, media_type, status)
        await asyncio.wait({run_in_background(self._store(self._request, answer))}, timeout=_STORE_WAIT_S)

    async def _store(self, request: RequestId, answer: StoredAnswer) -> None:
        try:
            await in_database_thread(self._answers.put, self._owner, request, answer)
        except StoreUnavailableError as error:
            log.error("answers: %s", type(error).__name__)


def _hashable(value: Any) -> Any:
    """``value`` as JSON has it, with digests in place of files."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return {name: _hashable(each) for name, each in value.items()}
    return [_hashable(each) for each in value] if isinstance(value, list) else value
