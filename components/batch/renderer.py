"""Renders rows with one pipeline through the denoising engine; threads may call it concurrently."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

from PIL import Image
from torch import Tensor

from components.batch.row import BatchRow, SubjectRow
from components.characters.character import SubjectTokens
from components.characters.store import CharacterStore
from components.config import Config
from components.cut_outs import cut_out
from components.data.decode import decode_with_alpha
from components.data.region import find_mask
from components.data.source_files import SourceFiles
from components.engine import request as engine
from components.engine.budget import measure_budget
from components.engine.engine import Engine
from components.engine.request import Phase, Request
from components.errors import DataError
from components.model.naming import WordNamer
from components.model.subjects import Subject

#: Size of the caches of cut-outs and vision tokens; rows of one subject are often adjacent.
_KEPT = 256


class Pipeline(engine.Pipeline, Protocol):
    """The interface of `components.model.pipeline.RealCustomPipeline` that `Renderer` needs."""

    @property
    def token_identity(self) -> str: ...

    @property
    def reference_size(self) -> int: ...

    def encode_subject(self, pictures: list[Image.Image]) -> Tensor: ...

    def face_group(self, boxes: Sequence[tuple[float, float, float, float] | None]) -> Tensor | None: ...


@dataclass(frozen=True)
class RenderedRow:
    """A row's image, the prompt and target words that were used, and the duration in seconds."""

    picture: Image.Image
    prompt: str
    words: list[str]
    seconds: float


class Renderer:
    """Renders rows; rows of concurrent callers share denoising steps.

    Args:
        pipeline: used by this renderer only.
        store: of the rows' references.
    """

    def __init__(self, config: Config, pipeline: Pipeline, store: SourceFiles) -> None:
        self._config, self._pipeline, self._store = config, pipeline, store
        self._engine = Engine(pipeline, config.serving.pixel_budget or _budget(config, pipeline))
        self._cut_out = lru_cache(_KEPT)(self._read_cut_out)
        self._tokens = lru_cache(_KEPT)(self._encode)
        self._character = lru_cache(_KEPT)(self._read_character)

    def render(self, row: BatchRow) -> RenderedRow:
        """Render a row; blocks until it is finished.

        Raises:
            DataError: a reference cannot be read.
            NotFoundError: there is no such character.
            WordError: the prompt does not contain a subject's word.
        """
        prompt, subjects = row.prompt, []
        for wanted in row.subjects:
            for reference in wanted.references:
                self._cut_out(reference)  # in this thread, while the engine works on others
            subject, prompt = self._engine.beside(self._subject, wanted, prompt).result()
            subjects.append(subject)
        request = Request(
            prompt=prompt,
            seed=row.seed,
            width=row.width,
            height=row.height,
            steps=row.steps,
            guidance_scale=row.guidance_scale,
            negative_prompt=row.negative_prompt,
            subjects=tuple(subjects),
            mask_scope=row.mask_scope,
        )
        handle = self._engine.submit(request)
        picture = handle.result()
        seconds = handle.seconds(Phase.ENCODING, Phase.DONE)
        return RenderedRow(picture.image, prompt, [subject.word for subject in subjects], seconds)

    def close(self) -> None:
        self._engine.close()

    def _subject(self, wanted: SubjectRow, prompt: str) -> tuple[Subject, str]:
        """The subject, and the prompt with its word. Runs in the engine's thread, which alone uses the encoders."""
        word = wanted.word
        if wanted.character is not None:
            known, kept = self._character(wanted.character)
            word = word or known
        else:
            kept = SubjectTokens(self._tokens(wanted.references))
        if word is None:
            naming = self._namer.name(prompt, [self._cut_out(reference) for reference in wanted.references])
            prompt, word = naming.prompt, naming.word
        strengths = wanted.strength, kept.face, wanted.face_strength, wanted.body_strength
        return Subject(kept.tokens, word, *strengths), prompt

    def _read_cut_out(self, reference: str) -> Image.Image:
        data = self._config.data
        try:
            decoded = decode_with_alpha(self._store.read(reference, data.max_bytes), data.max_pixels)
        except DataError as error:
            raise DataError(f"reference: {error}") from None
        return cut_out(decoded.picture, find_mask(decoded, data.region), self._pipeline.reference_size)

    def _encode(self, references: tuple[str, ...]) -> Tensor:
        return self._pipeline.encode_subject([self._cut_out(reference) for reference in references]).cpu()

    def _read_character(self, identifier: str) -> tuple[str, SubjectTokens]:
        """A stored character's word and tokens, which are computed and stored if missing."""
        identity, characters = self._identity, self._characters
        word = characters.get(identifier).target_word
        kept = characters.tokens(identifier, identity)
        if kept is None:
            shown = characters.cut_outs(identifier, self._pipeline.reference_size)
            tokens = self._pipeline.encode_subject([each.picture for each in shown.cut_outs])
            kept = SubjectTokens(tokens.cpu(), self._pipeline.face_group([each.face for each in shown.cut_outs]))
            characters.put_tokens(identifier, identity, shown.revision, kept)
        return word, kept

    @cached_property
    def _identity(self) -> str:
        """The identity of the encoders; cached, since it hashes all their weights."""
        return self._pipeline.token_identity

    @cached_property
    def _namer(self) -> WordNamer:
        return WordNamer.from_config(self._config.model, self._config.naming)

    @cached_property
    def _characters(self) -> CharacterStore:
        return CharacterStore(
            self._config.serving.store, self._config.serving.database, self._config.serving.database_limits
        )


def _budget(config: Config, pipeline: Pipeline) -> int:
    """The pixel budget for images of the configured size, measured for ``serving.warm_up_s`` at most."""
    deadline = time.monotonic() + config.serving.warm_up_s
    sampling = config.sampling
    probe = Request(
        prompt="a thing",
        seed=0,
        width=sampling.width,
        height=sampling.height,
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
    )
    return measure_budget(pipeline, probe, deadline=deadline)
