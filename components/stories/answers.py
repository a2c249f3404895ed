"""What was made for requests with an idempotency key, so that sending one again makes nothing twice."""

from __future__ import annotations

from typing import Any, NamedTuple

import sqlalchemy as sa

from components.errors import KeyReusedError
from components.stories.tables import requests


class RequestKey(NamedTuple):
    """An owner's name for a request, and the digest that tells another request with the same name."""

    key: str
    digest: str


def known_answer(connection: sa.Connection, owner: str, request: RequestKey | None) -> Any | None:
    """What the same request was answered with, if it was.

    Raises:
        KeyReusedError: the key stands for another request.
    """
    if request is None:
        return None
    query = sa.select(requests.c.digest, requests.c.answer)
    row = connection.execute(query.where(requests.c.owner == owner, requests.c.key == request.key)).first()
    if row is not None and row.digest != request.digest:
        raise KeyReusedError("this key was used for another request; take a new one")
    return None if row is None else row.answer


def keep_answer(connection: sa.Connection, owner: str, request: RequestKey | None, answer: Any, now: float) -> None:
    """Remember an answer; raises IntegrityError where the same request was answered at the same time."""
    if request is not None:
        row = {"owner": owner, "created": now, "answer": answer, **request._asdict()}
        connection.execute(requests.insert().values(**row))


def forget_answers(connection: sa.Connection, before: float) -> None:
    """Drop what was answered before a time."""
    connection.execute(requests.delete().where(requests.c.created < before))
