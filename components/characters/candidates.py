"""Candidates: images generated from a prompt, one of which a user selects as a character's reference.

The server stores them for an hour, so that a selection is an id and a number, and the reference is the generated image
itself, independent of the model that is served later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from components.characters.advice import Advice
from components.characters.sweep import sweep
from components.characters.tables import candidates, checked, new_id
from components.errors import NotFoundError
from components.object_store import ObjectStore

#: Seconds until candidates expire.
KEEP_S = 3600.0


class CandidateNotFoundError(NotFoundError):
    """The candidates do not exist, have expired, or belong to another owner."""


@dataclass(frozen=True)
class Candidates:
    """The id of stored candidates, when they expire (seconds since 1970), and the advice on each image."""

    id: str
    expires: float
    advice: list[Advice]


@dataclass(frozen=True)
class Candidate:
    """An image (PNG) and its prompt."""

    prompt: str
    picture: bytes


class CandidateStore:
    """Rows in the characters' database, images in their object store.

    Args:
        engine: of a database that has the characters' tables.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, objects: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._objects, self._clock = engine, objects, clock

    def put(self, prompt: str, pictures: Sequence[bytes], owner: str = "") -> tuple[str, float]:
        """Store ``pictures``; returns their id and when they expire."""
        self.expire()
        identifier, expires = new_id("cand"), self._clock() + KEEP_S
        for index, picture in enumerate(pictures):
            self._objects.write(_name(identifier, index), picture)
        row = {"id": identifier, "owner": owner, "expires": expires, "prompt": prompt, "pictures": len(pictures)}
        with self._engine.begin() as connection:
            connection.execute(candidates.insert().values(**row))
        return identifier, expires

    def get(self, identifier: str, choice: int, owner: str = "") -> Candidate:
        """Picture number ``choice``, from 0.

        Raises:
            CandidateNotFoundError: there is none.
        """
        try:
            mine = (candidates.c.id == checked(identifier)) & (candidates.c.owner == owner)
        except NotFoundError:
            raise CandidateNotFoundError("there are no such candidates; create new ones") from None
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(candidates).where(mine)).mappings().first()
        if row is None or row["expires"] <= self._clock():
            raise CandidateNotFoundError("there are no such candidates, or they have expired; create new ones")
        if not 0 <= choice < row["pictures"]:
            raise CandidateNotFoundError(f"choose one of the {row['pictures']} candidates, from 0")
        try:
            return Candidate(row["prompt"], self._objects.read(_name(identifier, choice)))
        except FileNotFoundError:  # they have just expired
            raise CandidateNotFoundError("there are no such candidates; create new ones") from None

    def expire(self) -> int:
        """Remove expired candidates; returns how many."""
        over = candidates.c.expires <= self._clock()
        with self._engine.begin() as connection:
            expired = [row.id for row in connection.execute(sa.select(candidates.c.id).where(over))]
            connection.execute(candidates.delete().where(candidates.c.id.in_(expired)))
        for identifier in expired:
            self._objects.clear(identifier)
        return len(expired)

    def sweep(self, older_than_s: float = 3600) -> int:
        """Remove files without a row that are older than ``older_than_s``; returns how many."""
        return sweep(self._objects, "cand", self._wanted, older_than_s)

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(candidates.c.id).where(candidates.c.id.in_(folders)))
            known = {row.id for row in rows}
        return {name for name in names if name.partition("/")[0] in known}


def _name(identifier: str, index: int) -> str:
    return f"{identifier}/{index}.png"
