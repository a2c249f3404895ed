"""Characters of an earlier release: their pictures had numbers for ids, and their face boxes a file."""

from __future__ import annotations

import json

import sqlalchemy as sa

from components.blobs import Blobs
from components.characters.character import Picture
from components.characters.tables import characters, pack


def upgrade(engine: sa.Engine, blobs: Blobs) -> int:
    """Fill the galleries of rows that have none; returns how many. Several processes may do so at the same time."""
    old = characters.c.gallery.is_(None)
    with engine.connect() as connection:
        rows = connection.execute(sa.select(characters.c.id, characters.c.pictures).where(old)).all()
    for row in rows:
        faces = _faces(blobs, row.id) or [None] * row.pictures
        pictures = tuple(Picture(str(i), face and tuple(face)) for i, face in enumerate(faces))
        filled = characters.update().where(characters.c.id == row.id, old).values(gallery=pack(pictures))
        with engine.begin() as connection:
            connection.execute(filled)
    return len(rows)


def _faces(blobs: Blobs, identifier: str) -> list[list[int] | None]:
    """The face box of each picture, where any were looked for."""
    try:
        return list(json.loads(blobs.read(f"{identifier}/faces.json")))
    except FileNotFoundError:
        return []
