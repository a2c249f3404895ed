"""A generator that goes away, in the middle of a picture, too, and comes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.protocols import Generator
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.results import GenerationEvent, GenerationResult


class InterruptedGenerator:
    """`Generator` over another one, for as long as it is ``there``."""

    def __init__(self, generator: Generator) -> None:
        self._generator, self.there = generator, True
        #: How many requests it has finished.
        self.finished = 0

    async def generate(self, request: GenerationRequest) -> GenerationResult:
        self._check()
        result = await self._generator.generate(request)
        self._check()
        return result

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        self._check()
        await self._generator.encode_character(character, revision, owner)

    async def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        self._check()
        async with aclosing(self._generator.stream(request, previews)) as events:
            async for event in events:
                self._check()
                self.finished += isinstance(event, GenerationResult)
                yield event

    def _check(self) -> None:
        if not self.there:
            raise UnavailableError("no generator is there")
