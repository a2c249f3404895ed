"""Idempotency keys of requests that are answered with images: a repeated request is charged once.

The images of a repeated request are generated again, with the same seeds, so that nothing has to be stored.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, TypeVar

from fastapi import Header

from components.access.limits import RequestId
from components.fingerprint import fingerprint
from deploy.api.images.schema import SEEDS, BaseImageRequest

Body = TypeVar("Body", bound=BaseImageRequest)

IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, pattern=r"^[\x21-\x7e]+$")]


def repeatable(kind: str, body: Body, key: str | None, owner: str) -> tuple[Body, RequestId | None]:
    """The body with a seed that follows from ``key``, unless it has one, and the request's identity.

    Args:
        kind: distinguishes the routes of an owner that take equal bodies.
    """
    if key is None:
        return body, None
    digest = fingerprint([kind, _hashable(body.model_dump(exclude_defaults=True))])
    if body.seed is None:
        seed = int(fingerprint([owner, key])[:8], 16) % SEEDS
        body = body.model_copy(update={"seed": seed})
    return body, RequestId(key, digest)


def _hashable(value: Any) -> Any:
    """``value`` as JSON has it, with digests in place of files."""
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict):
        return {name: _hashable(each) for name, each in value.items()}
    return [_hashable(each) for each in value] if isinstance(value, list) else value
