"""Encodes the images of a new or changed character in the background, so that its first picture need not wait."""

from __future__ import annotations

import logging

from components.characters.character import Character
from deploy.background import run_in_background
from deploy.interfaces.protocols import Generator

log = logging.getLogger(__name__)


class CharacterEncoding:
    """Encodings by a gateway's generator. One that fails is made up for by the character's first picture."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def begin(self, character: Character) -> None:
        """Begin to encode the images of ``character``; call it in an event loop."""
        run_in_background(self._encode(character))

    async def _encode(self, character: Character) -> None:
        try:
            await self._generator.encode_character(character.id, character.revision, character.owner)
        except Exception as error:  # only its class is logged, as everywhere
            log.info("characters: not encoded in advance: %s", type(error).__name__)
