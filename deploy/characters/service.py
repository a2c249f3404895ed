"""Stores characters made of uploaded images. Independent of HTTP and Serve."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from PIL import Image

from components.characters.candidates import Candidate, Candidates, CandidateStore
from components.characters.cast import Cast
from components.characters.character import MAX_PICTURES, Character, CharacterCutOuts, Reference, SubjectTokens
from components.characters.description import propose_description
from components.characters.store import CharacterStore
from components.config import Config
from components.content import ContentCheck
from components.data.schema import Box
from components.pictures import thumbnail, to_png
from deploy.background import in_database_thread
from deploy.characters.references import ReferenceReader
from deploy.characters.uploads import UploadReader
from deploy.fair_places import FairPlaces
from deploy.interfaces.protocols import Namer
from deploy.interfaces.requests import StatedRegion, UploadedPicture, UploadedSubject

T = TypeVar("T")


class CharacterService:
    """`Characters` and `SubjectSource` over a `CharacterStore`; blocking work runs in threads.

    Args:
        content, namer: see `ReferenceReader`.
    """

    def __init__(
        self, config: Config, content: ContentCheck | None = None, namer: Callable[[], Namer] | None = None
    ) -> None:
        self._reader = ReferenceReader(config, content, namer)
        self._uploads = UploadReader(config.serving, content)
        serving = config.serving
        self._store = CharacterStore(serving.store, serving.database, serving.database_limits, serving.quotas)
        self._reading = FairPlaces(os.cpu_count() or 1, serving)
        self._candidates = CandidateStore(self._store.engine, self._store.objects)
        self._store.sweep()
        self._candidates.expire()
        self._candidates.sweep()

    async def create(
        self,
        name: str,
        description: str,
        target_word: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
        regions: Sequence[StatedRegion] = (),
    ) -> Character:
        """Store a character of the subject that the images show.

        Missing face boxes and regions are detected; an empty description is proposed from the word and the colours.

        Raises:
            DataError: an image cannot be read, or a box or mask does not fit its image.
            ContentError: the content policy refuses an image.
            StorageQuotaError: the owner has no room for them.
            WordError: there is neither a word nor a description with one, and words are not detected.
        """

        def create() -> Character:
            self._store.check_room(owner, 1, len(pictures))
            references = self._reader.read(pictures, "pictures", faces, regions)
            word = self._reader.word(target_word, description, references)
            described = description or propose_description(references, word.word)
            return self._store.create(name, described, word, references, owner)

        return await self._read(owner, create)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]:
        return await in_database_thread(self._store.page, limit, after, owner)

    async def get(self, identifier: str, owner: str = "") -> Character:
        return await in_database_thread(self._store.get, identifier, owner)

    async def cast(self, owner: str = "") -> Cast:
        return await in_database_thread(self._store.cast, owner)

    async def update(
        self, identifier: str, name: str | None, description: str | None, target_word: str | None, owner: str = ""
    ) -> Character:
        return await in_database_thread(self._store.describe, identifier, name, description, target_word, owner)

    async def add_pictures(
        self,
        identifier: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
        regions: Sequence[StatedRegion] = (),
    ) -> Character:
        """Add images to a character, as in `create`.

        Raises:
            DataError: an image cannot be read.
            ContentError: the content policy refuses an image.
            StorageQuotaError: the owner has no room for them.
            PictureCountError: the character would have more than `MAX_PICTURES` images.
        """

        def add() -> Character:
            self._store.get(identifier, owner)
            self._store.check_room(owner, 0, len(pictures))
            references = self._reader.read(pictures, "pictures", faces, regions)
            return self._store.add_pictures(identifier, references, MAX_PICTURES, owner)

        return await self._read(owner, add)

    async def remove_picture(self, identifier: str, picture: str, owner: str = "") -> Character:
        return await in_database_thread(self._store.remove_picture, identifier, picture, owner)

    async def change_region(self, identifier: str, picture: str, region: StatedRegion, owner: str = "") -> Character:
        """Cut a picture out again, where ``region`` says that its subject is; the picture gets another id.

        Raises:
            StatedRegionError: the box or mask does not fit the picture.
        """

        def change() -> Character:
            found = self._reader.find_again(self._store.reference(identifier, picture, owner), region)
            return self._store.replace_picture(identifier, picture, found, owner)

        return await self._read(owner, change)

    async def original(self, identifier: str, picture: str, owner: str = "") -> bytes:
        """A picture as it is stored, as PNG."""

        def read() -> bytes:
            return to_png(self._store.reference(identifier, picture, owner).picture)

        return await asyncio.to_thread(read)

    async def mask(self, identifier: str, picture: str, owner: str = "") -> bytes:
        """The mask of a picture's subject: a PNG of the picture's size, white on the subject."""

        def read() -> bytes:
            return to_png(self._store.reference(identifier, picture, owner).mask)

        return await asyncio.to_thread(read)

    async def cut_out(self, identifier: str, picture: str | None, owner: str = "") -> bytes:
        """The PNG cut-out of an image as the model sees it, by default of the first image."""

        def make(reference: Reference) -> bytes:
            return to_png(self._reader.cut_out(reference).picture)

        return await asyncio.to_thread(self._store.cut_out, identifier, picture, self._reader.size, make, owner)

    async def thumbnail(self, identifier: str, picture: str, size: int, owner: str = "") -> bytes:
        """A picture's cut-out as a WebP of at most ``size`` pixels."""

        def make(reference: Reference) -> bytes:
            return thumbnail(to_png(self._reader.cut_out(reference).picture), size)

        return await asyncio.to_thread(self._store.thumbnail, identifier, picture, size, make, owner)

    async def delete(self, identifier: str, owner: str = "") -> None:
        await in_database_thread(self._store.delete, identifier, owner)

    async def cut_out_uploads(
        self, pictures: list[bytes], field: str, owner: str = "", regions: Sequence[StatedRegion] = ()
    ) -> UploadedSubject:
        """The subject of images that are not stored.

        Raises:
            DataError: an image cannot be read; the message begins with its place in ``field``.
            ContentError: the content policy refuses an image.
        """

        def cut_out() -> UploadedSubject:
            references = self._reader.read(pictures, field, (), regions)
            cut_outs = [self._reader.cut_out(reference) for reference in references]
            return UploadedSubject(tuple(to_png(c.picture) for c in cut_outs), tuple(c.face for c in cut_outs))

        return await self._read(owner, cut_out)

    async def picture_size(self, picture: bytes, field: str, owner: str = "") -> tuple[int, int]:
        """The sides that the header of an uploaded image states.

        Raises:
            DataError: the header cannot be read; the message begins with ``field``.
        """
        return await self._read(owner, lambda: self._uploads.size(picture, field))

    async def read_picture(
        self, picture: bytes, field: str, owner: str = "", size: tuple[int, int] | None = None
    ) -> UploadedPicture:
        """An uploaded image, which is not stored; by default in its own ``size`` (width, height).

        Raises:
            DataError: it cannot be read; the message begins with ``field``.
            ContentError: the content policy refuses it.
        """

        def read() -> UploadedPicture:
            upright = self._uploads(picture, field).picture
            if size is not None and upright.size != size:
                upright = upright.resize(size, Image.Resampling.LANCZOS)
            return UploadedPicture(to_png(upright), *upright.size)

        return await self._read(owner, read)

    async def read_redraw_mask(self, mask: bytes, size: tuple[int, int], field: str, owner: str = "") -> bytes:
        """The mask of an image of ``size`` as a PNG, white where the uploaded one is transparent.

        Raises:
            StatedRegionError: it cannot be read, is of another size, or nothing in it is transparent.
        """
        return await self._read(owner, lambda: to_png(self._uploads.redraw_mask(mask, size, field).convert("1")))

    async def save_candidates(self, prompt: str, pictures: list[bytes], owner: str = "") -> Candidates:
        """Store images generated from ``prompt`` for an hour; the client makes one of them a character."""

        def save() -> Candidates:
            references = self._reader.read(pictures, "candidates")
            identifier, expires = self._candidates.put(prompt, pictures, owner)
            return Candidates(identifier, expires, [r.advice for r in references if r.advice is not None])

        return await asyncio.to_thread(save)

    async def get_candidate(self, identifier: str, choice: int, owner: str = "") -> Candidate:
        """An image that `save_candidates` has stored.

        Raises:
            CandidateNotFoundError: it does not exist, has expired or is another owner's.
        """
        return await in_database_thread(self._candidates.get, identifier, choice, owner)

    async def cut_outs(self, identifier: str, size: int) -> CharacterCutOuts:
        return await asyncio.to_thread(self._store.cut_outs, identifier, size)

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        return await in_database_thread(self._store.tokens, identifier, identity)

    async def put_tokens(self, identifier: str, identity: str, revision: int, subject: SubjectTokens) -> bool:
        return await in_database_thread(self._store.put_tokens, identifier, identity, revision, subject)

    async def _read(self, owner: str, work: Callable[[], T]) -> T:
        """Do ``work`` with pictures in a thread when it is ``owner``'s turn: one with many keeps nobody waiting.

        Raises:
            BusyError: too many wait; OwnerLimitError if they are the owner's own.
        """
        async with self._reading.place(owner):
            return await asyncio.to_thread(work)
