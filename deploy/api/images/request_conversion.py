"""Makes a `GenerationRequest` of a request's JSON: resolves characters, fills in defaults, checks limits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from components.config import Config
from components.errors import ConfigError, NotFoundError, WordError
from components.model.prompt_notes import find_unread
from components.model.prompt_weights import holds_word
from components.model.schedulers import check_steps
from components.provenance.image_files import Output
from deploy.api.error_responses import ApiError
from deploy.api.images.control_request import without_picture
from deploy.api.images.schema import SEEDS, BaseImageRequest, CharacterChoice, EditRequest, ImageRequest
from deploy.api.mentions import refuse_mentions, resolve_mentions
from deploy.interfaces.loaded_names import check_control, check_loras
from deploy.interfaces.protocols import Characters
from deploy.interfaces.requests import GenerationRequest, RequestedRedraw, RequestedSubject

#: Share of letters that the model does not read from which a prompt is refused.
_MOST_UNREAD = 0.2


async def resolve_request(
    body: ImageRequest, config: Config, model: str, characters: Characters, owner: str = ""
) -> GenerationRequest:
    """The request with its characters.

    Raises:
        ApiError: a field exceeds its limit, or names a model or character that does not exist.
        WordError: the prompt does not contain a character's word.
    """
    check_model(body, model)
    prompt, subjects = await resolve_subjects(body, characters, owner)
    return build_request(body, config, prompt, subjects, owner)


async def resolve_subjects(
    body: ImageRequest | EditRequest, characters: Characters, owner: str
) -> tuple[str, list[RequestedSubject]]:
    """The prompt with words in place of mentions, and the characters that are chosen or mentioned.

    Raises:
        ApiError: a character does not exist, an ``@`` names nobody, or there are too many characters.
        WordError: the prompt does not contain a character's word.
    """
    await refuse_mentions(body.negative_prompt, "negative_prompt", characters, owner)
    prompt, chosen = await resolve_mentions(body.prompt, body.characters, characters, owner)
    subjects = [await _subject(choice, i, characters, owner) for i, choice in enumerate(chosen)]
    if not all(holds_word(prompt, subject.word) for subject in subjects):
        raise WordError("the prompt must contain the character's target word as a whole word")
    return prompt, subjects


def check_model(body: BaseImageRequest, model: str) -> None:
    """Refuse a model that is not served."""
    if body.model not in (None, model):
        raise ApiError(404, "model: this model is not served; see /v1/models", "model", "model_not_found")


def build_request(
    body: BaseImageRequest,
    config: Config,
    prompt: str,
    subjects: Sequence[RequestedSubject],
    owner: str = "",
    redraw: RequestedRedraw | None = None,
) -> GenerationRequest:
    """The request with its defaults filled in.

    Args:
        prompt: replaces the body's, whose mentions are not resolved.

    The control has no picture yet, see `deploy.api.images.control_request.with_control`.

    Raises:
        ApiError: a field exceeds its limit, or the model does not read the prompt's script.
        UnsupportedRequestError: a LoRA or control is not loaded.
    """
    check_loras((lora.name for lora in body.loras), config.model.loras)
    check_control(None if body.control is None else body.control.name, config.model.controls)
    steps = body.steps or config.sampling.steps
    if steps > config.serving.max_steps:
        raise ApiError(400, f"steps: at most {config.serving.max_steps}", "steps", "too_large")
    sampler = body.sampler or body.scheduler
    try:
        check_steps(sampler, steps)
    except ConfigError as error:
        raise ApiError(400, str(error), "steps", "too_large") from None
    words = [subject.word for subject in subjects if subject.word]
    unread = [*_unread_notes(prompt, "prompt", words, config)]
    unread += _unread_notes(body.negative_prompt, "negative_prompt", [], config)
    width, height = _parse_size(body.size, config)
    seed = secrets.randbelow(SEEDS) if body.seed is None else body.seed
    return GenerationRequest(
        prompt=prompt,
        negative_prompt=body.negative_prompt,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=body.guidance_scale or config.sampling.guidance_scale,
        seeds=tuple((seed + index) % SEEDS for index in range(body.n)),
        subjects=tuple(subjects),
        mask_scope=body.mask_scope,
        owner=owner,
        scheduler=sampler,
        prompt_options=body.prompt_options,
        output=Output(body.output_format, body.output_compression),
        notes=(*body.notes(), *unread, *_shared_word_notes(subjects)),
        redraw=redraw,
        loras=tuple((lora.name, lora.weight) for lora in body.loras),
        control=None if body.control is None else without_picture(body.control),
    )


async def _subject(choice: CharacterChoice, index: int, characters: Characters, owner: str) -> RequestedSubject:
    try:
        character = await characters.get(choice.id, owner)
    except NotFoundError as error:
        raise ApiError(404, str(error), f"characters[{index}].id", "character_not_found") from None
    word = choice.target_word or character.target_word
    strengths = choice.strength, choice.face_strength, choice.body_strength
    return RequestedSubject(character.id, word, *strengths, revision=character.revision)


def _unread_notes(text: str, field: str, words: Sequence[str], config: Config) -> list[str]:
    """A note on what the text encoders do not read.

    Raises:
        ApiError: that is much of the text.
    """
    unread = None if config.serving.prompt_scripts == "any" else find_unread(text, words)
    if unread is None:
        return []
    if unread.share < _MOST_UNREAD:
        return [f"{field}: the model reads Latin letters, and not “{unread.text}”, which has hardly any effect"]
    remedy = "write it in English; characters may be mentioned by names of any script"
    message = f"{field}: the model reads English, and not “{unread.text}”: {remedy}"
    raise ApiError(400, message, field, "prompt_not_readable")


def _shared_word_notes(subjects: Sequence[RequestedSubject]) -> list[str]:
    """A note for each subject with the word of an earlier one: the model cannot separate their regions."""
    words = [subject.word.casefold() for subject in subjects]
    return [
        f"characters[{i}] has the word of characters[{words.index(word)}]: both act wherever it stands; "
        "give one another target_word"
        for i, word in enumerate(words)
        if words.index(word) < i
    ]


def _parse_size(size: str, config: Config) -> tuple[int, int]:
    width, height = config.sampling.width, config.sampling.height
    if size != "auto":
        width, height = (int(side) for side in size.split("x"))
    if width % 8 or height % 8 or max(width, height) > config.serving.max_side:
        limit = f"size: both sides must be multiples of 8, at most {config.serving.max_side}"
        raise ApiError(400, limit, "size", "invalid_size")
    return width, height
