"""The answers to requests with an idempotency key, which a repeated request gets, whatever has changed since.

A file for each in the object store, ``answers/<owner's digest>/<key's digest>``: a line of JSON, then the body. They
expire after an hour; `AnswerStore.sweep` removes them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from components.access.limits import RequestId
from components.errors import KeyReusedError
from components.object_store import ObjectStore

#: Seconds until an answer expires.
KEEP_S = 3600.0
_FOLDER = "answers"


@dataclass(frozen=True)
class StoredAnswer:
    """The body of a response, its media type and its status."""

    body: bytes
    media_type: str
    status: int = 200


@dataclass(frozen=True)
class _Head:
    digest: str
    created: float
    media_type: str
    status: int


class AnswerStore:
    """Stores and finds answers. The store's failures are `components.object_store.StoreUnavailableError`.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, objects: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        self._objects, self._clock = objects, clock

    def find(self, owner: str, request: RequestId) -> StoredAnswer | None:
        """The answer to an earlier request of ``owner``; None if there is none, or it has expired.

        Raises:
            KeyReusedError: the key was used for another request.
        """
        try:
            line, _, body = self._objects.read(_name(owner, request.key)).partition(b"\n")
        except FileNotFoundError:
            return None
        head = _Head(**json.loads(line))
        if head.created <= self._clock() - KEEP_S:
            return None
        if head.digest != request.digest:
            raise KeyReusedError("this key was used for another request; use a new one")
        return StoredAnswer(body, head.media_type, head.status)

    def put(self, owner: str, request: RequestId, answer: StoredAnswer) -> None:
        """Store an answer in place of an earlier one."""
        head = _Head(request.digest, self._clock(), answer.media_type, answer.status)
        self._objects.write(_name(owner, request.key), json.dumps(asdict(head)).encode() + b"\n" + answer.body)

    def sweep(self) -> int:
        """Remove expired answers; returns how many."""
        removed = 0
        for name in self._objects.names(_FOLDER):
            try:
                expired = self._objects.age_s(name) >= KEEP_S
            except FileNotFoundError:  # another process removed it
                continue
            if expired:
                self._objects.discard(name)
                removed += 1
        return removed


def answer_folder(owner: str) -> str:
    """The folder of an owner's answers in the object store."""
    return f"{_FOLDER}/{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


def _name(owner: str, key: str) -> str:
    return f"{answer_folder(owner)}/{hashlib.sha256(key.encode()).hexdigest()}"
