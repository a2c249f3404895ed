"""Resolves the subjects of a request: the word of each in the prompt, and its vision tokens."""

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
from components.cut_outs import CutOut
from components.errors import WordError
from components.model.naming import Naming
from components.model.prompt_weights import holds_word
from deploy.generator.token_cache import TokenCache
from deploy.interfaces.errors import UnsupportedRequestError
from deploy.interfaces.protocols import Namer, SubjectSource
from deploy.interfaces.requests import GenerationRequest, RequestedSubject, UploadedSubject


class Encoder(Protocol):
    """The part of `components.model.pipeline.RealCustomPipeline` that encodes subjects."""

    @property
    def token_identity(self) -> str: ...

    @property
    def reference_size(self) -> int: ...

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor: ...

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None: ...


@dataclass(frozen=True)
class ResolvedSubjects:
    """The prompt to use, and each subject's word in it and vision tokens."""

    prompt: str
    words: tuple[str, ...]
    tokens: tuple[SubjectTokens, ...]


class SubjectResolver:
    """Resolves the subjects of requests.

    Args:
        run_beside: runs a function with the pipeline's encoders beside the engine's steps.
        namer: factory, called on first use because a namer needs much memory; None requires a word for every subject.
        count: called for each character with the source of its tokens: ``cached`` here, ``kept`` or ``computed``.
        cache_s: seconds for which fetched tokens are cached.
    """

    def __init__(
        self,
        encoder: Encoder,
        characters: SubjectSource,
        run_beside: Callable[..., Future[Any]],
        namer: Callable[[], Namer] | None = None,
        count: Callable[[str], None] = lambda _: None,
        cache_s: float = 0,
    ) -> None:
        self._encoder, self._characters, self._run_beside, self._make_namer = encoder, characters, run_beside, namer
        self._count, self._cache = count, TokenCache(cache_s)
        #: Computations of a character's tokens at a revision of its images, which all that need them wait for.
        self._computing: dict[tuple[str, int], asyncio.Task[SubjectTokens]] = {}
        #: A hash of all weights, too slow to compute in a request.
        self._identity = encoder.token_identity

    async def resolve(self, request: GenerationRequest) -> ResolvedSubjects:
        """The subjects of a request; tokens of a character are computed if none of this encoder are stored.

        Raises:
            WordError: the prompt does not contain a subject's word.
            UnsupportedRequestError: a word has to be detected, and this service has no namer.
            NotFoundError: a character was deleted.
        """
        prompt, words, tokens = request.prompt, [], []
        for subject in request.subjects:
            word = subject.word
            if subject.uploaded is not None:
                cut_outs = await asyncio.to_thread(_decode, subject.uploaded, self._encoder.reference_size)
                if not word:
                    naming = await self._name(prompt, cut_outs)
                    prompt, word = naming.prompt, naming.word
                tokens.append(await self._run(self._encode, cut_outs))
            else:
                tokens.append(await self._character_tokens(prompt, subject))
            words.append(word)
        return ResolvedSubjects(prompt, tuple(words), tuple(tokens))

    async def encode_character(self, character: str, revision: int) -> None:
        """Compute and store the tokens of a character's images at ``revision``, unless they are stored.

        Raises:
            NotFoundError: the character was deleted.
        """
        if await self._characters.tokens(character, self._identity) is None:
            await self._shared_tokens(character, revision)

    async def _character_tokens(self, prompt: str, subject: RequestedSubject) -> SubjectTokens:
        if not holds_word(prompt, subject.word):
            raise WordError("the prompt must contain the character's target word as a whole word")
        if (cached := self._cache.get(subject)) is not None:
            self._count("cached")
            return cached
        stored = await self._characters.tokens(subject.character, self._identity)
        if stored is not None:
            self._count("kept")
            tokens = stored
        elif subject.revision is None:
            tokens = await self._compute_tokens(subject.character)
        else:
            tokens = await self._shared_tokens(subject.character, subject.revision)
        self._cache.put(subject, tokens)
        return tokens

    async def _shared_tokens(self, character: str, revision: int) -> SubjectTokens:
        """The tokens of a computation that others may wait for, and which goes on without them."""
        key = (character, revision)
        if (task := self._computing.get(key)) is None:
            task = self._computing[key] = asyncio.create_task(self._compute_tokens(character))
            task.add_done_callback(lambda done: self._computing.pop(key))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved, if nobody waits
        return await asyncio.shield(task)

    async def _compute_tokens(self, character: str) -> SubjectTokens:
        """The tokens of a character, which are stored; they may have been since the caller looked for them."""
        stored = await self._characters.tokens(character, self._identity)
        if stored is not None:
            return stored
        shown = await self._characters.cut_outs(character, self._encoder.reference_size)
        tokens: SubjectTokens = await self._run(self._encode, shown.cut_outs)
        await self._characters.put_tokens(character, self._identity, shown.revision, tokens)
        self._count("computed")
        return tokens

    async def _name(self, prompt: str, cut_outs: Sequence[CutOut]) -> Naming:
        if self._make_namer is None:
            message = "target_word: this service does not detect words: give the word that stands for the subject"
            raise UnsupportedRequestError(message, "target_word")
        pictures = [cut_out.picture for cut_out in cut_outs]
        naming: Naming = await self._run(lambda: self._namer.name(prompt, pictures))
        return naming

    @cached_property
    def _namer(self) -> Namer:
        assert self._make_namer is not None
        return self._make_namer()

    def _encode(self, cut_outs: Sequence[CutOut]) -> SubjectTokens:
        tokens = self._encoder.encode_subject([cut_out.picture for cut_out in cut_outs])
        return SubjectTokens(tokens.cpu(), self._encoder.face_group([cut_out.face for cut_out in cut_outs]))

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.wrap_future(self._run_beside(function, *arguments))


def _decode(uploaded: UploadedSubject, size: int) -> list[CutOut]:
    """The cut-outs as squares of ``size`` pixels, with their face boxes scaled."""
    decoded = []
    for png, face in zip(uploaded.cut_outs, uploaded.faces, strict=True):
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            square = picture.convert("RGB")
        if square.width != size:
            scale = size / square.width
            square = square.resize((size, size), Image.Resampling.BICUBIC)
            face = face and (face[0] * scale, face[1] * scale, face[2] * scale, face[3] * scale)
        decoded.append(CutOut(square, face))
    return decoded
