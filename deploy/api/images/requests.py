"""What a request for pictures comes to: an order with everything decided, and the answer when it is delivered."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence

from components.config import Config
from components.errors import NotFoundError, WordError
from components.model.words import find_word
from components.provenance.image_files import Output
from deploy.api.error_responses import ApiError
from deploy.api.images.schema import CharacterChoice, ImageData, ImageRequest, ImageResponse, PictureRequest
from deploy.api.mentions import resolve_mentions
from deploy.interfaces.protocols import Characters, CharacterUse, Delivery, Drawing, Order


async def read_order(
    request: ImageRequest, config: Config, model: str, characters: Characters, owner: str = ""
) -> Order:
    """Fill the request's gaps from the configuration and hold it to the limits.

    Raises:
        ApiError: a field is beyond its limit, or names a model or character that is not there.
        WordError: the prompt does not hold a character's word.
    """
    check_model(request, model)
    prompt, chosen = await resolve_mentions(request.prompt, request.characters, characters, owner)
    subjects = [await _subject(choice, i, characters, owner) for i, choice in enumerate(chosen)]
    if not all(find_word(prompt, subject.word) for subject in subjects):
        raise WordError("the prompt must contain the character's target word as a whole word")
    return make_order(request, config, prompt, subjects, owner)


def check_model(request: PictureRequest, model: str) -> None:
    """Refuse a model that is not served."""
    if request.model not in (None, model):
        raise ApiError(404, "model: this model is not served; see /v1/models", "model", "model_not_found")


def make_order(
    request: PictureRequest, config: Config, prompt: str, subjects: Sequence[CharacterUse], owner: str = ""
) -> Order:
    """The order of a request whose subjects are known.

    Raises:
        ApiError: a field is beyond its limit.
    """
    steps = request.steps or config.sampling.steps
    if steps > config.serving.max_steps:
        raise ApiError(400, f"steps: at most {config.serving.max_steps}", "steps", "too_large")
    width, height = _size(request.size, config)
    seed = secrets.randbits(32) if request.seed is None else request.seed
    return Order(
        prompt=prompt,
        negative_prompt=request.negative_prompt,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=request.guidance_scale or config.sampling.guidance_scale,
        seeds=tuple(range(seed, seed + request.n)),
        subjects=tuple(subjects),
        mask_scope=request.mask_scope,
        owner=owner,
        scheduler=request.scheduler,
        output=Output(request.output_format, request.output_compression),
        notes=(*request.notes(), *_shared_words(subjects)),
    )


def image_response(
    order: Order, delivery: Delivery, model: str, with_masks: bool, total_s: float, asked: str | None = None
) -> ImageResponse:
    """The answer to an order; ``total_s`` is how long it took altogether.

    Args:
        asked: the prompt as it was asked for: where something else was drawn, the answer tells what.
    """
    return ImageResponse(
        created=int(time.time()),
        data=[_image(drawing, with_masks, revised(delivery, asked)) for drawing in delivery.drawings],
        output_format=order.output.format,
        size=f"{order.width}x{order.height}",
        model=model,
        model_version=delivery.model_version,
        seed=order.seeds[0],
        target_words=list(delivery.words),
        timings=delivery.timings | {"total_s": total_s},
        notes=delivery.notes,
    )


def revised(delivery: Delivery, asked: str | None) -> str | None:
    """What was drawn, if it is not what was asked for."""
    return None if asked is None or delivery.prompt in ("", asked) else delivery.prompt


async def _subject(chosen: CharacterChoice, index: int, characters: Characters, owner: str) -> CharacterUse:
    try:
        character = await characters.get(chosen.id, owner)
    except NotFoundError as error:
        raise ApiError(404, str(error), f"characters[{index}].id", "character_not_found") from None
    word = chosen.target_word or character.target_word
    strengths = chosen.strength, chosen.face_strength, chosen.body_strength
    return CharacterUse(character.id, word, *strengths, revision=character.revision)


def _shared_words(subjects: Sequence[CharacterUse]) -> list[str]:
    """Of which subjects it cannot be told apart where they are."""
    words = [subject.word.casefold() for subject in subjects]
    return [
        f"characters[{i}] has the word of characters[{words.index(word)}]: both act wherever it stands; "
        "give one another target_word"
        for i, word in enumerate(words)
        if words.index(word) < i
    ]


def _size(size: str, config: Config) -> tuple[int, int]:
    width, height = config.sampling.width, config.sampling.height
    if size != "auto":
        width, height = (int(side) for side in size.split("x"))
    if width % 8 or height % 8 or max(width, height) > config.serving.max_side:
        limit = f"size: both sides must be multiples of 8, at most {config.serving.max_side}"
        raise ApiError(400, limit, "size", "invalid_size")
    return width, height


def _image(drawing: Drawing, with_masks: bool, prompt: str | None) -> ImageData:
    masks = [to_base64(mask) for mask in drawing.masks] if with_masks else None
    return ImageData(b64_json=to_base64(drawing.picture), revised_prompt=prompt, masks_b64_json=masks)


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
