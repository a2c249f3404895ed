"""Upgrade of rows of an earlier release, whose pictures had numbers as ids, and face boxes in a file."""

from __future__ import annotations

import sqlalchemy as sa
from pydantic import TypeAdapter

from components.characters.character import Picture
from components.characters.tables import characters, pack
from components.data.schema import Box
from components.object_store import ObjectStore

_FACES = TypeAdapter(list[Box | None])


def upgrade(engine: sa.Engine, objects: ObjectStore) -> int:
    """Fill the column ``gallery`` where it is null; returns how many rows. Safe in concurrent processes."""
    old = characters.c.gallery.is_(None)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(characters.c.id, characters.c.pictures).where(old)).all()
    for row in rows:
        faces = _faces(objects, row.id) or [None] * row.pictures
        pictures = tuple(Picture(str(i), face) for i, face in enumerate(faces))
        filled = characters.update().where(characters.c.id == row.id, old).values(gallery=pack(pictures))
        with engine.begin() as connection:
            connection.execute(filled)
    return len(rows)


def _faces(objects: ObjectStore, identifier: str) -> list[Box | None]:
    """The face box of each picture; empty if none were detected."""
    try:
        return _FACES.validate_json(objects.read(f"{identifier}/faces.json"))
    except FileNotFoundError:
        return []
