"""Characters: their rows in a database, their pictures and vision tokens in a directory or an object store.

A row is written after its files and deleted before them, so the files of every row exist. Files are immutable, and a
change of a character's pictures is one conditional update of its row, which increments the revision. Files of vision
tokens are named after the revision of their pictures, so outdated tokens are never used. `CharacterStore.sweep` removes
files without a row, which a crash leaves behind. Several processes may use one store at the same time, and with a
database server and a shared directory or an object store several machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from components.characters.cast import Cast
from components.characters.character import (
    NO_SUCH_PICTURE,
    Character,
    CharacterCutOuts,
    Picture,
    PictureCountError,
    PictureNotFoundError,
    Reference,
    SubjectTokens,
)
from components.characters.character_files import CharacterFiles, belongs
from components.characters.character_rows import CharacterRows
from components.characters.storage_quotas import StorageQuotaError, StorageUsage
from components.characters.sweep import sweep
from components.characters.tables import new_id
from components.characters.target_word import TargetWord
from components.characters.upgrade import upgrade
from components.config import DatabaseLimits, StorageQuotas
from components.cut_outs import cut_out_with_face
from components.database import open_database
from components.errors import NotFoundError
from components.object_store import open_object_store

_DEFAULT_LIMITS = DatabaseLimits()


class CharacterStore:
    """Creates, lists, reads, changes and deletes characters, and stores their vision tokens.

    Methods with an id raise NotFoundError if the character does not exist, or does not belong to the given owner.
    """

    def __init__(
        self,
        place: Path | str,
        database: str | None = None,
        limits: DatabaseLimits = _DEFAULT_LIMITS,
        quotas: StorageQuotas | None = None,
    ) -> None:
        """Open or create the store.

        Args:
            place: directory or URL of the files.
            database: SQLAlchemy URL of the rows; by default SQLite in the directory.
            limits: of the database.
            quotas: of each owner; by default none.

        Raises:
            ConfigError: ``place`` is a URL that cannot be opened, or is given without a database.
        """
        self.engine, self.objects = open_database(place, database, limits), open_object_store(place)
        self._rows, self._files = CharacterRows(self.engine, quotas), CharacterFiles(self.objects)
        upgrade(self.engine, self.objects)

    def create(
        self, name: str, description: str, word: str | TargetWord, references: Sequence[Reference], owner: str = ""
    ) -> Character:
        """Add a character with at least one reference.

        Raises:
            StorageQuotaError: the owner has no room for it.
        """
        if not references:
            raise ValueError("a character needs at least one reference")
        word = TargetWord(word, "given") if isinstance(word, str) else word
        row = {"id": new_id("char"), "owner": owner, "created": time.time(), "revision": 1}
        row |= {"name": name, "description": description, "target_word": word.word, "word_source": word.source}
        self.check_room(owner, 1, len(references))
        pictures = tuple(self._files.put(str(row["id"]), reference) for reference in references)
        try:
            return self._rows.insert(pictures, **row)
        except StorageQuotaError:
            self._files.clear(str(row["id"]))
            raise

    def check_room(self, owner: str, characters: int, pictures: int) -> None:
        """Check before any work whether the owner has room.

        Raises:
            StorageQuotaError: there is no room for so many more.
        """
        self._rows.check_room(owner, StorageUsage(characters, pictures, 0))

    def usage(self, owner: str) -> StorageUsage:
        """What the characters of an owner take."""
        return self._rows.usage(owner)

    def page(self, limit: int = 20, after: str | None = None, owner: str = "") -> list[Character]:
        """Up to ``limit`` of an owner's characters, newest first, older than the id ``after``, which may be deleted."""
        return self._rows.page(limit, after, owner)

    def cast(self, owner: str = "") -> Cast:
        """All characters of an owner, by their names."""
        return self._rows.cast(owner)

    def get(self, identifier: str, owner: str | None = None) -> Character:
        return self._rows.get(identifier, owner)

    def describe(
        self,
        identifier: str,
        name: str | None = None,
        description: str | None = None,
        target_word: str | None = None,
        owner: str | None = None,
    ) -> Character:
        """Change the given fields."""
        given = {"name": name, "description": description, "target_word": target_word}
        given |= {"word_source": None if target_word is None else "given"}
        return self._rows.update(identifier, owner, **{field: v for field, v in given.items() if v is not None})

    def add_pictures(
        self, identifier: str, references: Sequence[Reference], most: int, owner: str | None = None
    ) -> Character:
        """Append pictures.

        Raises:
            PictureCountError: there would be more than ``most``.
        """

        def change(pictures: tuple[Picture, ...], added: tuple[Picture, ...]) -> tuple[Picture, ...]:
            if len(pictures) + len(references) > most:
                raise PictureCountError(f"a character has at most {most} pictures: remove one first")
            return (*pictures, *added)

        return self._put_pictures(identifier, owner, references, change)

    def remove_picture(self, identifier: str, picture: str, owner: str | None = None) -> Character:
        """Remove a picture and its files.

        Raises:
            PictureNotFoundError: the character has no such picture.
            PictureCountError: it is the only one.
        """

        def change(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
            rest = tuple(kept for kept in pictures if kept.id != picture)
            if len(rest) == len(pictures):
                raise PictureNotFoundError(NO_SUCH_PICTURE)
            if not rest:
                raise PictureCountError("a character needs at least one picture: add another first")
            return rest

        changed = self._change_pictures(identifier, owner, change)
        self._files.discard(identifier, [Picture(picture)])
        return changed

    def replace_picture(
        self, identifier: str, picture: str, reference: Reference, owner: str | None = None
    ) -> Character:
        """Put a reference in the place of a picture; it has an id of its own.

        Raises:
            PictureNotFoundError: the character has no such picture.
        """

        def change(pictures: tuple[Picture, ...], added: tuple[Picture, ...]) -> tuple[Picture, ...]:
            if picture not in [kept.id for kept in pictures]:
                raise PictureNotFoundError(NO_SUCH_PICTURE)
            return tuple(new for kept in pictures for new in (added if kept.id == picture else (kept,)))

        changed = self._put_pictures(identifier, owner, [reference], change)
        self._files.discard(identifier, [Picture(picture)])
        return changed

    def delete(self, identifier: str, owner: str | None = None) -> None:
        """Remove the row, then every file."""
        self._rows.delete(identifier, owner)
        self._files.clear(identifier)

    def references(self, identifier: str) -> list[Reference]:
        """The character's pictures, in their order."""
        return self._shown(identifier)[1]

    def reference(self, identifier: str, picture: str | None = None, owner: str | None = None) -> Reference:
        """One picture, with its original; by default the first.

        Raises:
            PictureNotFoundError: the character has no such picture.
        """
        found = self.get(identifier, owner).picture(picture)
        try:
            original = self._files.original(identifier, found.id)
            return replace(self._files.reference(identifier, found), original=original)
        except FileNotFoundError:
            raise PictureNotFoundError(NO_SUCH_PICTURE) from None

    def thumbnail(
        self,
        identifier: str,
        picture: str,
        size: int,
        make: Callable[[Reference], bytes],
        owner: str | None = None,
    ) -> bytes:
        """A thumbnail of a picture, which ``make`` makes where there is none yet.

        Raises:
            PictureNotFoundError: the character has no such picture.
        """
        found = self.get(identifier, owner).picture(picture).id
        return self._files.thumbnail(identifier, found, size, lambda: make(self.reference(identifier, found, owner)))

    def cut_out(
        self,
        identifier: str,
        picture: str | None,
        size: int,
        make: Callable[[Reference], bytes],
        owner: str | None = None,
    ) -> bytes:
        """The cut-out of a picture, by default the first, of ``size`` pixels; ``make`` makes it where there is none.

        Raises:
            PictureNotFoundError: the character has no such picture.
        """
        found = self.get(identifier, owner).picture(picture).id
        return self._files.cut_out(identifier, found, size, lambda: make(self.reference(identifier, found, owner)))

    def cut_outs(self, identifier: str, size: int) -> CharacterCutOuts:
        """The cut-out of every picture on a white square of ``size`` pixels: the model's input."""
        revision, references = self._shown(identifier)
        return CharacterCutOuts(revision, [cut_out_with_face(r.picture, r.mask, r.face, size) for r in references])

    def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        """The tokens of the current pictures by the encoder ``identity``; None if they are not stored."""
        try:
            return self._files.tokens(identifier, self.get(identifier).revision, identity)
        except FileNotFoundError:
            return None

    def put_tokens(self, identifier: str, identity: str, revision: int, subject: SubjectTokens) -> bool:
        """Store the tokens of the pictures at ``revision`` by the encoder ``identity``.

        Returns:
            False, and nothing is stored, if the pictures have changed.
        """
        if self.get(identifier).revision != revision:
            return False
        self._files.put_tokens(identifier, revision, identity, subject)
        try:
            current = self.get(identifier).revision == revision
        except NotFoundError:  # the character was deleted
            self._files.clear(identifier)
            raise
        if not current:
            self._files.discard_tokens(identifier, revision, identity)
        return current

    def sweep(self, older_than_s: float = 3600) -> int:
        """Remove files without a row that are older than ``older_than_s``; returns how many."""
        return sweep(self.objects, "char", self._wanted, older_than_s)

    def _put_pictures(
        self,
        identifier: str,
        owner: str | None,
        references: Sequence[Reference],
        change: Callable[[tuple[Picture, ...], tuple[Picture, ...]], tuple[Picture, ...]],
    ) -> Character:
        """Write the files of references, then replace the pictures by ``change`` of them and the new ones.

        ``change`` may raise PictureCountError or PictureNotFoundError; then no file is left.
        """
        change(self.get(identifier, owner).pictures, ())  # to fail before files are written
        added = tuple(self._files.put(identifier, reference) for reference in references)
        try:
            return self._change_pictures(identifier, owner, lambda pictures: change(pictures, added))
        except (PictureCountError, PictureNotFoundError, StorageQuotaError):
            self._files.discard(identifier, added)
            raise
        except NotFoundError:  # the character was deleted
            self._files.clear(identifier)
            raise

    def _change_pictures(
        self, identifier: str, owner: str | None, change: Callable[[tuple[Picture, ...]], tuple[Picture, ...]]
    ) -> Character:
        """Replace the pictures by ``change`` of them, retrying after concurrent updates; remove outdated tokens."""
        while True:
            before = self.get(identifier, owner)
            changed = self._rows.swap_pictures(before, change(before.pictures))
            if changed is not None:
                self._files.drop_tokens(identifier, changed.revision)
                return changed

    def _shown(self, identifier: str) -> tuple[int, list[Reference]]:
        """The revision and all pictures of it."""
        while True:
            character = self.get(identifier)
            try:
                return character.revision, [self._files.reference(identifier, p) for p in character.pictures]
            except FileNotFoundError:
                if self.get(identifier).revision == character.revision:
                    raise

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        found = self._rows.among(folders)
        owners = ((name, found.get(name.partition("/")[0])) for name in names)
        return {name for name, character in owners if character is not None and belongs(name, character)}
