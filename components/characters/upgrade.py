"""Characters of an earlier release: their pictures had numbers for ids, and their face boxes a file."""

from __future__ import annotations

import sqlalchemy as sa
from pydantic import TypeAdapter

from components.characters.character import Picture
from components.characters.tables import characters, pack
from components.data.schema import Box
from components.object_store import ObjectStore

_FACES = TypeAdapter(list[Box | None])


def upgrade(engine: sa.Engine, blobs: ObjectStore) -> int:
    """Fill the galleries of rows that have none; returns how many. Several processes may do so at the same time."""
    old = characters.c.gallery.is_(None)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(characters.c.id, characters.c.pictures).where(old)).all()
    for row in rows:
        faces = _faces(blobs, row.id) or [None] * row.pictures
        pictures = tuple(Picture(str(i), face) for i, face in enumerate(faces))
        filled = characters.update().where(characters.c.id == row.id, old).values(gallery=pack(pictures))
        with engine.begin() as connection:
            connection.execute(filled)
    return len(rows)


def _faces(blobs: ObjectStore, identifier: str) -> list[Box | None]:
    """The face box of each picture, where any were looked for."""
    try:
        return _FACES.validate_json(blobs.read(f"{identifier}/faces.json"))
    except FileNotFoundError:
        return []
