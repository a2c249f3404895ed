"""The rows of characters. A change of a character's pictures is one conditional update."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any

import sqlalchemy as sa

from components.characters.cast import Cast, read_cast
from components.characters.character import Character, Picture
from components.characters.storage_quotas import StorageUsage, check_quotas, lock_owner, storage_usage
from components.characters.tables import characters, checked, is_, picture_values, read_character
from components.config import StorageQuotas
from components.errors import NotFoundError


class CharacterRows:
    """Methods with an id raise NotFoundError if the character does not exist, or does not belong to the given owner."""

    def __init__(self, engine: sa.Engine, quotas: StorageQuotas | None = None) -> None:
        self._engine, self._quotas = engine, quotas

    def insert(self, pictures: tuple[Picture, ...], **values: Any) -> Character:
        """Add a character.

        Raises:
            StorageQuotaError: its owner has no room for it.
        """
        with self._within_quotas(values["owner"]) as connection:
            connection.execute(characters.insert().values(**values, **picture_values(pictures)))
        return self.get(values["id"])

    def usage(self, owner: str) -> StorageUsage:
        """What the characters of an owner take."""
        with self._engine.connect() as connection:
            return storage_usage(connection, owner)

    def check_room(self, owner: str, more: StorageUsage) -> None:
        """Check the quotas before work begins; a change checks them again.

        Raises:
            StorageQuotaError: there is no room for ``more``.
        """
        if self._quotas is not None:
            used = self.usage(owner)
            characters, pictures, size = (a + b for a, b in zip(astuple(used), astuple(more), strict=True))
            check_quotas(used, StorageUsage(characters, pictures, size), self._quotas)

    @contextmanager
    def _within_quotas(self, owner: str) -> Iterator[sa.Connection]:
        """A transaction that is rolled back, with StorageQuotaError, if it exceeds the owner's quotas."""
        with self._engine.begin() as connection:
            if self._quotas is None:
                yield connection
                return
            lock_owner(connection, owner)
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            used = storage_usage(connection, owner)
            yield connection
            check_quotas(used, storage_usage(connection, owner), self._quotas)

    def page(self, limit: int, after: str | None, owner: str) -> list[Character]:
        """Up to ``limit`` of an owner's characters, newest first, older than the id ``after``, which may be deleted."""
        query = sa.select(characters).where(characters.c.owner == owner).order_by(characters.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(characters.c.id < checked(after))
        with self._engine.connect() as connection:
            return [read_character(row) for row in connection.execute(query).mappings()]

    def cast(self, owner: str) -> Cast:
        """All characters of an owner, by their names."""
        with self._engine.connect() as connection:
            return read_cast(connection, owner)

    def get(self, identifier: str, owner: str | None = None) -> Character:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(characters).where(is_(identifier, owner))).mappings().first()
        if row is None:
            raise NotFoundError("there is no such character; list the existing ones")
        return read_character(row)

    def among(self, identifiers: Collection[str]) -> dict[str, Character]:
        """The existing ones of ``identifiers``."""
        query = sa.select(characters).where(characters.c.id.in_(identifiers))
        with self._engine.connect() as connection:
            return {row["id"]: read_character(row) for row in connection.execute(query).mappings()}

    def update(self, identifier: str, owner: str | None, **values: Any) -> Character:
        """Update columns other than those of the pictures."""
        if values:
            with self._engine.begin() as connection:
                connection.execute(characters.update().where(is_(identifier, owner)).values(**values))
        return self.get(identifier, owner)

    def swap_pictures(self, before: Character, pictures: tuple[Picture, ...]) -> Character | None:
        """Replace the character's pictures; None, without a change, if its revision is outdated.

        Raises:
            StorageQuotaError: the owner has no room for them.
        """
        values = picture_values(pictures) | {"revision": before.revision + 1}
        unchanged = is_(before.id, before.owner) & (characters.c.revision == before.revision)
        with self._within_quotas(before.owner) as connection:
            if not connection.execute(characters.update().where(unchanged).values(**values)).rowcount:
                return None
        return replace(before, revision=values["revision"], pictures=pictures, advice=values["advice"])

    def delete(self, identifier: str, owner: str | None = None) -> None:
        with self._engine.begin() as connection:
            gone = connection.execute(characters.delete().where(is_(identifier, owner))).rowcount
        if not gone:
            raise NotFoundError("there is no such character; list the existing ones")
