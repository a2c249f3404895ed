"""Characters on disk: a row in a database, the pictures and the vision tokens in a directory.

    <directory>/characters.db            rows, unless another database is named
    <directory>/<id>/picture-0.png       RGB, as uploaded
    <directory>/<id>/mask-0.png          L, 255 on the subject
    <directory>/<id>/faces.json          the face box of each picture, or null
    <directory>/<id>/tokens.safetensors  written on first use; its metadata names who computed it

A row appears after its files and disappears before them, so every row can be trusted. Files that a crash left without a
row are removed by `CharacterStore.sweep`. Several processes, and on a shared file system several machines, may use one
store at the same time.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.data.schema import Box
from components.database import open_database
from components.errors import NotFoundError
from components.model.words import folded
from components.pictures import CutOut, cut_out_with_face

_FACES = "faces.json"
_characters = sa.Table(
    "characters",
    sa.MetaData(),
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("target_word", sa.Text, nullable=False),
    sa.Column("pictures", sa.Integer, nullable=False),
    sa.Column("advice", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class Character:
    """One row. Ids sort by age."""

    id: str
    owner: str
    #: Seconds since 1970.
    created: float
    name: str
    description: str
    #: The word that stands for the character in a prompt.
    target_word: str
    #: How many pictures show it.
    pictures: int
    #: What would make the pictures better references, one sentence each.
    advice: list[str]


@dataclass(frozen=True)
class Reference:
    """One picture of the subject: RGB, an L mask of its size, 255 on the subject, and the face, if one is known."""

    picture: Image.Image
    mask: Image.Image
    #: x0, y0, x1, y1 in pixels.
    face: Box | None = None


@dataclass(frozen=True)
class SubjectTokens:
    """Vision tokens [n, d], and which of them show the face: bool [n], or None where no face is known."""

    tokens: Tensor
    face: Tensor | None = None


class CharacterStore:
    """Create, list, get and delete characters; keep their vision tokens.

    Every method that takes an id raises NotFoundError if there is no such character, or an owner is named and it is
    another's.
    """

    def __init__(self, directory: Path, database: str | None = None) -> None:
        """Open or create the store.

        Args:
            directory: where the files are kept.
            database: SQLAlchemy URL of the rows; by default SQLite in ``directory``.
        """
        self.directory = directory
        self._engine = open_database(directory, database, [_characters])

    def create(
        self,
        name: str,
        description: str,
        target_word: str,
        references: Sequence[Reference],
        advice: Sequence[str] = (),
        owner: str = "",
    ) -> Character:
        """Add a character with at least one reference."""
        if not references:
            raise ValueError("a character needs at least one reference")
        created = time.time()
        identifier = f"char-{time.time_ns():016x}{secrets.token_hex(6)}"
        character = Character(identifier, owner, created, name, description, target_word, len(references), list(advice))
        staging = self.directory / f".{identifier}.partial"
        staging.mkdir()
        for index, reference in enumerate(references):
            reference.picture.save(staging / f"picture-{index}.png")
            reference.mask.save(staging / f"mask-{index}.png")
        (staging / _FACES).write_text(json.dumps([reference.face for reference in references]))
        staging.rename(self.directory / identifier)
        with self._engine.begin() as connection:
            connection.execute(_characters.insert().values(**vars(character)))
        return character

    def page(self, limit: int = 20, after: str | None = None, owner: str = "") -> list[Character]:
        """Up to ``limit`` of an owner's characters, newest first, older than the id ``after`` (deleted or not)."""
        query = (
            sa.select(_characters).where(_characters.c.owner == owner).order_by(_characters.c.id.desc()).limit(limit)
        )
        if after is not None:
            query = query.where(_characters.c.id < after)
        with self._engine.connect() as connection:
            return [Character(**row) for row in connection.execute(query).mappings()]

    def find(self, name: str, owner: str = "") -> list[Character]:
        """An owner's characters of that name, in whatever case and encoding of accents, newest first."""
        table = _characters.c
        with self._engine.connect() as connection:
            names = connection.execute(sa.select(table.id, table.name).where(table.owner == owner)).all()
            same = [identifier for identifier, other in names if folded(other) == folded(name)]
            query = sa.select(_characters).where(table.id.in_(same)).order_by(table.id.desc())
            return [Character(**row) for row in connection.execute(query).mappings()]

    def get(self, identifier: str, owner: str | None = None) -> Character:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_characters).where(_is(identifier, owner))).mappings().first()
        if row is None:
            raise NotFoundError("there is no such character; list the existing ones")
        return Character(**row)

    def delete(self, identifier: str, owner: str | None = None) -> None:
        """Remove the row, then every file."""
        with self._engine.begin() as connection:
            gone = connection.execute(_characters.delete().where(_is(identifier, owner))).rowcount
        if not gone:
            raise NotFoundError("there is no such character; list the existing ones")
        shutil.rmtree(self.directory / identifier)

    def references(self, identifier: str) -> list[Reference]:
        character = self.get(identifier)
        files = self.directory / character.id
        faces = json.loads((files / _FACES).read_text()) if (files / _FACES).exists() else [None] * character.pictures
        return [
            Reference(_load(files / f"picture-{i}.png"), _load(files / f"mask-{i}.png"), face and tuple(face))
            for i, face in enumerate(faces)
        ]

    def cut_outs(self, identifier: str, size: int) -> list[CutOut]:
        """The subject of every picture on a white square of ``size`` pixels, which is what the model looks at."""
        return [cut_out_with_face(r.picture, r.mask, r.face, size) for r in self.references(identifier)]

    def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        """Tokens computed by ``identity``; none if there are none yet, or only another identity's."""
        file = self._files(identifier) / "tokens.safetensors"
        if not file.exists():
            return None
        with safe_open(file, framework="pt") as stored:
            if stored.metadata()["token_identity"] != identity:
                return None
            face = stored.get_tensor("face") if "face" in stored.keys() else None  # noqa: SIM118
            return SubjectTokens(stored.get_tensor("tokens"), face)

    def put_tokens(self, identifier: str, identity: str, subject: SubjectTokens) -> None:
        """Keep the tokens of ``identity`` in place of any other."""
        file = self._files(identifier) / "tokens.safetensors"
        staging = file.with_name(f".tokens.{secrets.token_hex(4)}.partial")
        kept = {"tokens": subject.tokens} | ({} if subject.face is None else {"face": subject.face})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.items()}
        save_file(tensors, staging, metadata={"token_identity": identity})
        os.replace(staging, file)

    def sweep(self, older_than_s: float = 3600) -> int:
        """Remove directories without a row that are old enough not to be in the making; returns how many."""
        removed = 0
        for directory in self.directory.glob("*char-*"):
            try:
                abandoned = time.time() - directory.stat().st_mtime >= older_than_s and not self._exists(directory.name)
            except FileNotFoundError:  # another process was quicker
                continue
            if abandoned:
                shutil.rmtree(directory, ignore_errors=True)
                removed += 1
        return removed

    def _exists(self, identifier: str) -> bool:
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(_characters.c.id).where(_characters.c.id == identifier)).first()
        return found is not None

    def _files(self, identifier: str) -> Path:
        return self.directory / self.get(identifier).id


def _is(identifier: str, owner: str | None) -> sa.ColumnElement[bool]:
    found = _characters.c.id == identifier
    return found if owner is None else sa.and_(found, _characters.c.owner == owner)


def _load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture
