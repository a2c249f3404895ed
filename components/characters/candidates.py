"""Pictures that were drawn from a prompt, for somebody to choose a character's from; kept for an hour.

They are kept here, and not sent back by who chooses, so that choosing is an id and a number, and what becomes the
reference is what was drawn, to the pixel, whatever model draws by then.
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

#: Seconds for which candidates are kept.
KEEP_S = 3600.0


class CandidateNotFoundError(NotFoundError):
    """There are no such candidates: they never were, their time is over, or they are another owner's."""


@dataclass(frozen=True)
class Candidates:
    """What somebody may choose from, until ``expires`` (seconds since 1970), and what is to be said of each picture."""

    id: str
    expires: float
    advice: list[Advice]


@dataclass(frozen=True)
class Candidate:
    """A picture (PNG) and the prompt that it was drawn from."""

    prompt: str
    picture: bytes


class CandidateStore:
    """Rows in the characters' database, pictures beside theirs.

    Args:
        engine: of a database that has the characters' tables.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, blobs: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._blobs, self._clock = engine, blobs, clock

    def put(self, prompt: str, pictures: Sequence[bytes], owner: str = "") -> tuple[str, float]:
        """Keep ``pictures`` for their hour; the id, and when the hour is over."""
        self.expire()
        identifier, expires = new_id("cand"), self._clock() + KEEP_S
        for index, picture in enumerate(pictures):
            self._blobs.write(_name(identifier, index), picture)
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
            raise CandidateNotFoundError("there are no such candidates; draw new ones") from None
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(candidates).where(mine)).mappings().first()
        if row is None or row["expires"] <= self._clock():
            raise CandidateNotFoundError("there are no such candidates, or their hour is over; draw new ones")
        if not 0 <= choice < row["pictures"]:
            raise CandidateNotFoundError(f"choose one of the {row['pictures']} candidates, from 0")
        try:
            return Candidate(row["prompt"], self._blobs.read(_name(identifier, choice)))
        except FileNotFoundError:  # their hour has just ended
            raise CandidateNotFoundError("there are no such candidates; draw new ones") from None

    def expire(self) -> int:
        """Remove what nobody can choose any more; returns how many rows."""
        over = candidates.c.expires <= self._clock()
        with self._engine.begin() as connection:
            expired = [row.id for row in connection.execute(sa.select(candidates.c.id).where(over))]
            connection.execute(candidates.delete().where(candidates.c.id.in_(expired)))
        for identifier in expired:
            self._blobs.clear(identifier)
        return len(expired)

    def sweep(self, older_than_s: float = 3600) -> int:
        """Remove files that no row names and that are old enough not to be in the making; returns how many."""
        return sweep(self._blobs, "cand", self._wanted, older_than_s)

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(candidates.c.id).where(candidates.c.id.in_(folders)))
            known = {row.id for row in rows}
        return {name for name in names if name.partition("/")[0] in known}


def _name(identifier: str, index: int) -> str:
    return f"{identifier}/{index}.png"
