"""Stored responses to requests with an idempotency key: a repeated request gets the first response."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from components.errors import KeyReusedError
from components.stories.tables import requests


class IdempotencyKey(NamedTuple):
    """The ``Idempotency-Key`` of a request, and the digest of its content."""

    key: str
    digest: str


def find_response(connection: sa.Connection, owner: str, request: IdempotencyKey | None) -> Any | None:
    """The stored response to a request; None if there is none.

    Raises:
        KeyReusedError: the key was used for a request with other content.
    """
    if request is None:
        return None
    query = sa.select(requests.c.digest, requests.c.answer)
    row = connection.execute(query.where(requests.c.owner == owner, requests.c.key == request.key)).first()
    if row is not None and row.digest != request.digest:
        raise KeyReusedError("this key was used for another request; take a new one")
    return None if row is None else row.answer


def store_response(
    connection: sa.Connection, owner: str, request: IdempotencyKey | None, answer: Any, now: float
) -> None:
    """Store a response; raises IntegrityError if a concurrent transaction has stored one for the same key."""
    if request is not None:
        row = {"owner": owner, "created": now, "answer": answer, **request._asdict()}
        connection.execute(requests.insert().values(**row))


def delete_responses(connection: sa.Connection, before: float) -> None:
    """Delete the responses that were stored before a time."""
    connection.execute(requests.delete().where(requests.c.created < before))
