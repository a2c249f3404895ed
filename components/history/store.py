"""The history of an owner, newest first: takes of stories, and images saved on request.

A saved image is a row and a folder of files, ``<id>/picture`` as generated and ``<id>/<size>.webp``. It expires after
``serving.stories.history_keep_s``; takes are kept as long as their stories.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from components.characters.cast import read_cast
from components.characters.sweep import sweep
from components.characters.tables import new_id
from components.config import StoriesConfig
from components.history.generation import Generation, GenerationNotFoundError, NewGeneration
from components.object_store import ObjectStore, read_or_make
from components.pictures import thumbnail
from components.stories.store import StoryStore
from components.stories.story import StoryLimitError
from components.stories.tables import takes
from components.stories.take_files import TakeFiles

_metadata = sa.MetaData()
generations = sa.Table(
    "generations",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Index("generations_by_owner", "owner", "id"),
    sa.Index("generations_by_age", "created"),
)
TABLES = (generations,)

_KIND = "gen"
_ID = re.compile(r"gen-[0-9a-f]{28}|take-[0-9a-f]{30}")
_COLUMNS = ("id", "created", "width", "height", "seed", "model", "model_version", "settings")


class HistoryStore:
    """Methods that take an id raise GenerationNotFoundError, also if it belongs to another owner.

    Args:
        engine: of a database that has `TABLES`, and those of stories and characters.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        blobs: ObjectStore,
        stories: StoryStore,
        limits: StoriesConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._blobs, self._stories = engine, blobs, stories
        self._limits, self._clock, self._takes = limits, clock, TakeFiles(blobs)

    def check_quota(self, owner: str) -> None:
        """Raise StoryLimitError if the owner's images use all of their quota."""
        used = sum(self._used(table, owner) for table in (takes, generations))
        if used >= self._limits.max_takes_bytes:
            limit = f"your pictures take {self._limits.max_takes_bytes:,} bytes, which is all you have"
            raise StoryLimitError(f"{limit}: delete takes, stories or generations first")

    def save(self, images: Sequence[NewGeneration], owner: str = "") -> list[str]:
        """Save images; returns their ids."""
        if not images:
            return []
        with self._engine.connect() as connection:
            cast = read_cast(connection, owner)
        rows: list[dict[str, Any]] = []
        for each in images:
            identifier = new_id(_KIND)
            self._blobs.write(f"{identifier}/picture", each.picture)
            settings = dict(each.settings)
            for character in settings["characters"]:
                member = cast.get(character["id"])
                character["name"] = "" if member is None else member.name
            facts = {name: getattr(each, name) for name in _COLUMNS[2:-1]}
            rows.append(
                {"id": identifier, "owner": owner, "created": self._clock(), "settings": settings}
                | facts
                | {"bytes": len(each.picture)}
            )
        with self._engine.begin() as connection:
            connection.execute(generations.insert(), rows)
        return [row["id"] for row in rows]

    def page(
        self,
        limit: int = 20,
        after: str | None = None,
        owner: str = "",
        character: str | None = None,
        story: str | None = None,
    ) -> list[Generation]:
        """Up to ``limit`` generations, newest first, older than the id ``after``, which may be deleted.

        Args:
            character: id of a character in the settings.
            story: only takes of this story.
        """
        before = None if after is None else _age(_checked(after))
        found: list[Generation] = []
        with self._engine.connect() as connection:
            for table in (takes, generations) if story is None else (takes,):
                age = sa.func.substr(table.c.id, 6 if table is takes else 5)
                query = sa.select(table).where(table.c.owner == owner).order_by(age.desc()).limit(limit)
                if before is not None:
                    query = query.where(age < before)
                if story is not None:
                    query = query.where(takes.c.story == story)
                if character is not None:
                    named = sa.cast(table.c.settings, sa.Text).contains(f'"{character}"', autoescape=True)
                    query = query.where(named)
                found += map(_read, connection.execute(query).mappings())
        return sorted(found, key=lambda each: _age(each.id), reverse=True)[:limit]

    def get(self, identifier: str, owner: str = "") -> Generation:
        table = takes if _checked(identifier).startswith("take-") else generations
        query = sa.select(table).where(table.c.id == identifier, table.c.owner == owner)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise _missing()
        return _read(row)

    def picture(self, identifier: str, owner: str = "") -> bytes:
        """The image file as generated."""
        found = self.get(identifier, owner)
        if found.story is not None:
            return self._takes.picture(found.story, identifier)
        try:
            return self._blobs.read(f"{identifier}/picture")
        except FileNotFoundError:  # deleted meanwhile
            raise _missing() from None

    def thumbnail(self, identifier: str, size: int, owner: str = "") -> bytes:
        """A WebP whose longer side is at most ``size`` pixels."""
        found = self.get(identifier, owner)
        if found.story is not None:
            return self._takes.thumbnail(found.story, identifier, size)
        name = f"{identifier}/{size}.webp"
        return read_or_make(self._blobs, name, lambda: thumbnail(self.picture(identifier, owner), size))

    def delete(self, identifier: str, owner: str = "") -> None:
        """Delete a saved image or a take, and its files."""
        found = self.get(identifier, owner)
        if found.story is not None:
            self._stories.delete_take(found.story, identifier, owner)
            self._takes.discard(found.story, [identifier])
            return
        with self._engine.begin() as connection:
            connection.execute(generations.delete().where(generations.c.id == identifier))
        self._blobs.clear(identifier)

    def sweep(self, older_than_s: float = 3600) -> int:
        """Delete expired images, and files without rows; returns the number of both."""
        return self.expire() + self.remove_orphans(older_than_s)

    def expire(self) -> int:
        """Delete expired images; returns how many."""
        over = generations.c.created < self._clock() - self._limits.history_keep_s
        with self._engine.begin() as connection:
            gone = list(connection.execute(generations.delete().where(over).returning(generations.c.id)).scalars())
        for identifier in gone:
            self._blobs.clear(identifier)
        return len(gone)

    def remove_orphans(self, older_than_s: float = 3600) -> int:
        """Remove files without rows that are older than ``older_than_s``; returns how many. Lists the whole store."""
        return sweep(self._blobs, _KIND, self._wanted, older_than_s)

    def _used(self, table: sa.Table, owner: str) -> int:
        query = sa.select(sa.func.coalesce(sa.func.sum(table.c.bytes), 0)).where(table.c.owner == owner)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(generations.c.id).where(generations.c.id.in_(folders)))
            known = set(rows.scalars())
        return {name for name in names if name.partition("/")[0] in known}


def _read(row: sa.RowMapping) -> Generation:
    of = {name: row[name] for name in ("story", "panel") if name in row}
    return Generation(**{name: row[name] for name in _COLUMNS}, **of)


def _checked(identifier: str) -> str:
    if not _ID.fullmatch(identifier):
        raise _missing()
    return identifier


def _age(identifier: str) -> str:
    """The part of an id by which ids sort."""
    return identifier.partition("-")[2]


def _missing() -> GenerationNotFoundError:
    return GenerationNotFoundError("there is no such generation; list the existing ones")
