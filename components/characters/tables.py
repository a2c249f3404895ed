"""The tables of characters and of candidates."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from components.characters.character import Character, Picture, gathered
from components.errors import NotFoundError

_metadata = sa.MetaData()
characters = sa.Table(
    "characters",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False, server_default=""),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("target_word", sa.Text, nullable=False),
    sa.Column("word_source", sa.String(16)),
    # Number of pictures; `gallery` describes them.
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("advice", sa.JSON, nullable=False),
    # Of the pictures; conditional updates compare it.
    sa.Column("revision", sa.Integer, nullable=False, server_default="1"),
    # A list of `Picture`; null in rows of an earlier release, until `upgrade` has filled it.
    sa.Column("gallery", sa.JSON(none_as_null=True)),
    # Of the pictures and masks; null in rows of an earlier release, which count none.
    sa.Column("bytes", sa.BigInteger),
    sa.Index("characters_by_owner", "owner", "id"),
)
#: Generated images from which a user selects a reference.
candidates = sa.Table(
    "character_candidates",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("expires", sa.Float(53), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
)
TABLES = (characters, candidates)

_GALLERY = TypeAdapter(tuple[Picture, ...])
_ID = re.compile(r"(char|cand)-[0-9a-f]{28}")
_SAME = ("id", "owner", "created", "name", "description", "target_word", "word_source", "revision", "advice")


def new_id(kind: str) -> str:
    """``<kind>-`` and 28 digits; ids sort by age."""
    return f"{kind}-{time.time_ns():016x}{secrets.token_hex(6)}"


def checked(identifier: str) -> str:
    """Validate the form of an identifier and return it.

    Raises:
        NotFoundError: the form is invalid.
    """
    if not _ID.fullmatch(identifier):
        raise NotFoundError("there is no such character; list the existing ones")
    return identifier


def is_(identifier: str, owner: str | None) -> sa.ColumnElement[bool]:
    """Condition: the row of the character, and of the owner if one is given."""
    found = characters.c.id == checked(identifier)
    return found if owner is None else sa.and_(found, characters.c.owner == owner)


def read_character(row: sa.RowMapping) -> Character:
    pictures = _GALLERY.validate_python(row["gallery"] or ())
    return Character(pictures=pictures, **{name: row[name] for name in _SAME})


def pack(pictures: tuple[Picture, ...]) -> Any:
    """A gallery as JSON."""
    return _GALLERY.dump_python(pictures, mode="json")


def picture_values(pictures: tuple[Picture, ...]) -> dict[str, Any]:
    """The values of the columns that describe the pictures."""
    size = sum(picture.size for picture in pictures)
    return {"pictures": len(pictures), "gallery": pack(pictures), "advice": gathered(pictures), "bytes": size}
