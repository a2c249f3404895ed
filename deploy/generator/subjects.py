"""Who appears in an order's pictures: the word that stands for each subject, and its vision tokens."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from components.characters.character import SubjectTokens
from components.errors import WordError
from components.model.naming import Naming
from components.model.words import find_word
from components.pictures import CutOut
from deploy.generator.token_cache import TokenCache
from deploy.interfaces.protocols import CharacterUse, Order, OrderError, SubjectSource, UploadedSubject


class Encoder(Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that looks at subjects."""

    @property
    def token_identity(self) -> str: ...

    @property
    def reference_size(self) -> int: ...

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor: ...

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None: ...


class Namer(Protocol):
    """Finds the word of a prompt that stands for what pictures show (`components.model.naming.WordNamer`)."""

    def name(self, prompt: str, pictures: Sequence[Image.Image]) -> Naming: ...


@dataclass(frozen=True)
class ResolvedSubjects:
    """What is drawn: the prompt, and each subject's word in it and tokens."""

    prompt: str
    words: tuple[str, ...]
    tokens: tuple[SubjectTokens, ...]


class SubjectResolver:
    """Casts orders.

    Args:
        beside: runs a function of the pipeline's parts beside the engine's steps.
        namer: made when it is first needed, for it may take much memory; None where every word has to be given.
        count: told of each character whether its tokens were ``cached`` here, ``kept`` or had to be ``computed``.
        cache_s: seconds for which tokens that were fetched stay here.
    """

    def __init__(
        self,
        encoder: Encoder,
        characters: SubjectSource,
        beside: Callable[..., Future[Any]],
        namer: Callable[[], Namer] | None = None,
        count: Callable[[str], None] = lambda _: None,
        cache_s: float = 0,
    ) -> None:
        self._encoder, self._characters, self._beside, self._make_namer = encoder, characters, beside, namer
        self._count, self._cache = count, TokenCache(cache_s)

    async def cast(self, order: Order) -> ResolvedSubjects:
        """The subjects of an order; a character's tokens are computed if the store has none of this encoder's identity.

        Raises:
            WordError: the prompt does not hold a subject's word.
            OrderError: a word would have to be found, and there is nobody to find it.
            NotFoundError: a character is gone.
        """
        prompt, words, tokens = order.prompt, [], []
        for subject in order.subjects:
            word = subject.word
            if subject.shown is not None:
                cut_outs = await asyncio.to_thread(_opened, subject.shown, self._encoder.reference_size)
                if not word:
                    naming = await self._name(prompt, cut_outs)
                    prompt, word = naming.prompt, naming.word
                tokens.append(await self._await(self._encode, cut_outs))
            else:
                tokens.append(await self._known(prompt, subject))
            words.append(word)
        return ResolvedSubjects(prompt, tuple(words), tuple(tokens))

    async def _known(self, prompt: str, subject: CharacterUse) -> SubjectTokens:
        if not find_word(prompt, subject.word):
            raise WordError("the prompt must contain the character's target word as a whole word")
        if (cached := self._cache.get(subject)) is not None:
            self._count("cached")
            return cached
        kept = await self._characters.tokens(subject.character, self._identity)
        self._count("computed" if kept is None else "kept")
        tokens = await self._computed(subject.character) if kept is None else kept
        self._cache.put(subject, tokens)
        return tokens

    async def _computed(self, character: str) -> SubjectTokens:
        shown = await self._characters.portraits(character, self._encoder.reference_size)
        tokens: SubjectTokens = await self._await(self._encode, shown.cut_outs)
        await self._characters.put_tokens(character, self._identity, shown.revision, tokens)
        return tokens

    async def _name(self, prompt: str, cut_outs: Sequence[CutOut]) -> Naming:
        if self._make_namer is None:
            raise OrderError("target_word: words are not found by themselves here: give the subject's", "target_word")
        pictures = [cut_out.picture for cut_out in cut_outs]
        naming: Naming = await self._await(lambda: self._namer.name(prompt, pictures))
        return naming

    @cached_property
    def _identity(self) -> str:
        """The encoder's, which is a hash of all its weights: too much for every order."""
        return self._encoder.token_identity

    @cached_property
    def _namer(self) -> Namer:
        assert self._make_namer is not None
        return self._make_namer()

    def _encode(self, cut_outs: Sequence[CutOut]) -> SubjectTokens:
        tokens = self._encoder.encode_subject([cut_out.picture for cut_out in cut_outs])
        return SubjectTokens(tokens.cpu(), self._encoder.face_group([cut_out.face for cut_out in cut_outs]))

    async def _await(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.wrap_future(self._beside(function, *arguments))


def _opened(shown: UploadedSubject, size: int) -> list[CutOut]:
    """The cut-outs of ``shown``, as squares of ``size`` pixels."""
    opened = []
    for png, face in zip(shown.cut_outs, shown.faces, strict=True):
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            square = picture.convert("RGB")
        if square.width != size:
            scale = size / square.width
            square = square.resize((size, size), Image.Resampling.BICUBIC)
            face = face and (face[0] * scale, face[1] * scale, face[2] * scale, face[3] * scale)
        opened.append(CutOut(square, face))
    return opened
