"""The characters that an owner's prompts can mention: ids, current names and target words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from components.characters.mention_names import KnownNames, name_key
from components.characters.mention_syntax import mentionable
from components.characters.tables import characters


@dataclass(frozen=True)
class CastMember:
    """A character: ``word`` is its target word, ``revision`` that of its reference images."""

    id: str
    name: str
    word: str
    revision: int


class Cast:
    """All characters of an owner, by id and by name; names are compared by `name_key`."""

    def __init__(self, members: Iterable[CastMember] = ()) -> None:
        self._by_id = {member.id: member for member in members}
        self._by_name: dict[str, list[CastMember]] = {}
        for member in self._by_id.values():
            self._by_name.setdefault(name_key(mentionable(member.name)), []).append(member)
        self.names = KnownNames(self._by_name)

    def get(self, identifier: str | None) -> CastMember | None:
        return None if identifier is None else self._by_id.get(identifier)

    def members(self) -> list[CastMember]:
        return list(self._by_id.values())

    def named(self, name: str) -> list[CastMember]:
        """All characters with this name."""
        return self._by_name.get(name_key(mentionable(name)), [])

    def unique(self, name: str) -> CastMember | None:
        """The character with this name; None if there is none or more than one."""
        found = self.named(name)
        return found[0] if len(found) == 1 else None


def read_cast(connection: sa.Connection, owner: str) -> Cast:
    """The current characters of ``owner``."""
    columns = (characters.c.id, characters.c.name, characters.c.target_word, characters.c.revision)
    rows = connection.execute(sa.select(*columns).where(characters.c.owner == owner))
    return Cast(CastMember(*row) for row in rows)
