"""The characters part: pictures in, a stored character and advice out. Knows nothing of HTTP or Serve."""

from __future__ import annotations

import asyncio
import io

from PIL import Image
from torch import Tensor

from components.characters.advice import advise
from components.characters.store import Character, CharacterStore, Reference
from components.config import Config
from components.data.picture import decode_picture
from components.data.region import subject_mask
from components.errors import DataError


class CharacterService:
    """`Characters` and `SubjectSource` over a `CharacterStore`; the work runs in threads."""

    def __init__(self, config: Config) -> None:
        self._store = CharacterStore(config.serving.store, config.serving.database)
        self._store.sweep()
        self._max_pixels = config.data.max_pixels
        self._reference_size = 2 * config.vision.view_size

    async def create(self, name: str, description: str, target_word: str, pictures: list[bytes]) -> Character:
        """Find the subject in each picture and keep it.

        Raises:
            DataError: a picture cannot be read.
        """
        return await asyncio.to_thread(self._create, name, description, target_word, pictures)

    async def page(self, limit: int, after: str | None) -> list[Character]:
        return await asyncio.to_thread(self._store.page, limit, after)

    async def get(self, identifier: str) -> Character:
        return await asyncio.to_thread(self._store.get, identifier)

    async def reference(self, identifier: str) -> bytes:
        """The first cut-out, as the model sees it, as PNG."""
        return to_png((await self.cut_outs(identifier, self._reference_size))[0])

    async def delete(self, identifier: str) -> None:
        await asyncio.to_thread(self._store.delete, identifier)

    async def cut_outs(self, identifier: str, size: int) -> list[Image.Image]:
        return await asyncio.to_thread(self._store.cut_outs, identifier, size)

    async def tokens(self, identifier: str, identity: str) -> Tensor | None:
        return await asyncio.to_thread(self._store.tokens, identifier, identity)

    async def put_tokens(self, identifier: str, identity: str, tokens: Tensor) -> None:
        await asyncio.to_thread(self._store.put_tokens, identifier, identity, tokens)

    def _create(self, name: str, description: str, target_word: str, uploads: list[bytes]) -> Character:
        pictures = [self._decode(data, f"pictures[{i}]") for i, data in enumerate(uploads)]
        references = [Reference(picture, subject_mask(picture)) for picture in pictures]
        advice = [s for r in references for s in advise(r.picture, r.mask, self._reference_size)]
        return self._store.create(name, description, target_word, references, list(dict.fromkeys(advice)))

    def _decode(self, data: bytes, field: str) -> Image.Image:
        try:
            return decode_picture(data, self._max_pixels)
        except DataError as error:
            raise DataError(f"{field}: {error}") from None


def to_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
