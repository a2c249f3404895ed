"""The characters part: pictures in, a stored character and advice out. Knows nothing of HTTP or Serve."""

from __future__ import annotations

import asyncio
import io

from PIL import Image

from components.characters.advice import advise
from components.characters.store import Character, CharacterStore, Reference, SubjectTokens
from components.config import Config
from components.content import ContentCheck
from components.data.region import subject_mask
from components.data.schema import Box
from components.errors import DataError
from components.faces import FaceDetector
from components.pictures import CutOut, cut_out_with_face
from deploy.protocols import Shown
from deploy.uploads import UploadReader


class CharacterService:
    """`Characters` and `SubjectSource` over a `CharacterStore`; the work runs in threads.

    Args:
        content: what uploaded pictures have to pass; by default what the policy says.
    """

    def __init__(self, config: Config, content: ContentCheck | None = None) -> None:
        self._store = CharacterStore(config.serving.store, config.serving.database)
        self._store.sweep()
        self._read = UploadReader(config.serving, content)
        self._reference_size = 2 * config.vision.view_size
        self._detector = FaceDetector() if config.serving.find_faces else None

    async def create(
        self,
        name: str,
        description: str,
        target_word: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
    ) -> Character:
        """Find the subject in each picture, and its face where none of ``faces`` is given, and keep it.

        Raises:
            DataError: a picture cannot be read.
            ContentError: the policy refuses one.
        """
        return await asyncio.to_thread(self._create, name, description, target_word, pictures, faces, owner)

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._store.page, limit, after, owner)

    async def get(self, identifier: str, owner: str = "") -> Character:
        return await asyncio.to_thread(self._store.get, identifier, owner)

    async def find(self, name: str, owner: str = "") -> list[Character]:
        return await asyncio.to_thread(self._store.find, name, owner)

    async def show(self, pictures: list[bytes], field: str) -> Shown:
        """The subject of pictures that are not kept.

        Raises:
            DataError: a picture cannot be read; the message begins with its place in ``field``.
            ContentError: the policy refuses one.
        """
        return await asyncio.to_thread(self._show, pictures, field)

    async def reference(self, identifier: str, owner: str = "") -> bytes:
        """The first cut-out, as the model sees it, as PNG."""
        await self.get(identifier, owner)
        return to_png((await self.cut_outs(identifier, self._reference_size))[0].picture)

    async def delete(self, identifier: str, owner: str = "") -> None:
        await asyncio.to_thread(self._store.delete, identifier, owner)

    async def cut_outs(self, identifier: str, size: int) -> list[CutOut]:
        return await asyncio.to_thread(self._store.cut_outs, identifier, size)

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None:
        return await asyncio.to_thread(self._store.tokens, identifier, identity)

    async def put_tokens(self, identifier: str, identity: str, subject: SubjectTokens) -> None:
        await asyncio.to_thread(self._store.put_tokens, identifier, identity, subject)

    def _show(self, uploads: list[bytes], field: str) -> Shown:
        cut_outs = []
        for index, data in enumerate(uploads):
            picture = self._read(data, f"{field}[{index}]")
            face = self._face(picture, None, field)
            cut_outs.append(cut_out_with_face(picture, subject_mask(picture), face, self._reference_size))
        return Shown(tuple(to_png(c.picture) for c in cut_outs), tuple(c.face for c in cut_outs))

    def _create(
        self,
        name: str,
        description: str,
        target_word: str,
        uploads: list[bytes],
        faces: list[Box | None],
        owner: str,
    ) -> Character:
        pictures = [self._read(data, f"pictures[{i}]") for i, data in enumerate(uploads)]
        given = [*faces, *[None] * len(pictures)]
        references = [
            Reference(picture, subject_mask(picture), self._face(picture, face, f"faces[{i}]"))
            for i, (picture, face) in enumerate(zip(pictures, given, strict=False))
        ]
        advice = [s for r in references for s in advise(r.picture, r.mask, self._reference_size)]
        return self._store.create(name, description, target_word, references, list(dict.fromkeys(advice)), owner)

    def _face(self, picture: Image.Image, given: Box | None, field: str) -> Box | None:
        if given is None:
            return None if self._detector is None else self._detector(picture)
        x0, y0, x1, y1 = given
        if not (0 <= x0 < x1 <= picture.width and 0 <= y0 < y1 <= picture.height):
            raise DataError(f"{field}: not a box x0, y0, x1, y1 in pixels inside its picture")
        return given


def to_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
