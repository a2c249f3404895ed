"""What is stored for an owner."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from components.characters.tables import characters
from components.history.store import generations
from components.stories.tables import stories, takes


@dataclass(frozen=True)
class Storage:
    """Numbers of stored things; ``bytes`` are those of pictures of characters, takes of stories, and the history.

    Characters of releases before 0.3.0 count no bytes.
    """

    characters: int
    pictures: int
    stories: int
    takes: int
    generations: int
    bytes: int


def owner_storage(engine: sa.Engine, owner: str) -> Storage:
    """What is stored for ``owner`` in a database that has the tables of characters, stories and the history."""

    def total(table: sa.Table, column: str | None = None) -> sa.ScalarSelect[int]:
        value = sa.func.count() if column is None else sa.func.coalesce(sa.func.sum(table.c[column]), 0)
        return sa.select(value).select_from(table).where(table.c.owner == owner).scalar_subquery()

    counted = (
        total(characters),
        total(characters, "pictures"),
        total(stories),
        total(takes),
        total(generations),
        total(characters, "bytes"),
        total(takes, "bytes"),
        total(generations, "bytes"),
    )
    with engine.connect() as connection:
        counts = list(map(int, connection.execute(sa.select(*counted)).one()))
    characters_, pictures, stories_, takes_, generations_, *sizes = counts
    return Storage(characters_, pictures, stories_, takes_, generations_, sum(sizes))
