"""Makes a `GenerationRequest` that redraws an uploaded image, or the part of it that a mask leaves transparent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from components.config import Config
from components.errors import DataError
from components.model.words import find_word
from deploy.api.error_responses import ApiError
from deploy.api.images.request_conversion import build_request, check_model, resolve_subjects
from deploy.api.images.schema import EditRequest, stated_regions
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.errors import StatedRegionError
from deploy.interfaces.protocols import Characters
from deploy.interfaces.requests import (
    GenerationRequest,
    RequestedRedraw,
    RequestedSubject,
    StatedRegion,
)

#: ``redraw_strength`` of a request with a mask and without one; also of a take's part.
DEFAULT_STRENGTH = 0.8


async def redraw_request(
    body: EditRequest, config: Config, model: str, characters: Characters, owner: str, time_limits: TimeLimits
) -> GenerationRequest:
    """The request to redraw the first image, with characters; `with_uploads` adds the images, which it does not decode.

    Raises:
        ApiError: a field exceeds its limit or does not fit the others, or the header of the image cannot be read.
        BeyondTimeLimitError: it would take longer than it may.
        WordError: the prompt does not contain a subject's word.
    """
    check_model(body, model)
    references = body.image[1:]
    if not references and (body.target_word or body.boxes or body.masks):
        given = "target_word" if body.target_word else "boxes" if body.boxes else "masks"
        message = f"{given}: it belongs to the images after the first one, which is redrawn: send one of the subject"
        raise ApiError(400, message, given, "invalid_order")
    prompt, subjects = await resolve_subjects(body, characters, owner)
    if references and body.target_word and not find_word(prompt, body.target_word):
        message = "target_word: the prompt must contain it as a whole word, within what the model reads"
        raise ApiError(400, message, "target_word", "target_word_not_in_prompt")
    if body.size == "auto":
        with _image_errors():
            width, height = await characters.picture_size(body.image[0], "image", owner)
        body = body.model_copy(update={"size": redraw_size(width, height, config)})
    strength = DEFAULT_STRENGTH if body.redraw_strength is None else body.redraw_strength
    request = build_request(body, config, prompt, subjects, owner, RequestedRedraw(strength))
    await time_limits.check(checked_strength(request, "redraw_strength"))
    return request


async def with_uploads(
    request: GenerationRequest, body: EditRequest, config: Config, characters: Characters
) -> GenerationRequest:
    """The request of `redraw_request` with the image to redraw, its mask and the subject of the other images.

    Raises:
        ApiError: an image cannot be read.
        StatedRegionError: the mask does not fit its image.
    """
    redraw = request.redraw
    assert redraw is not None
    with _image_errors():
        picture = await characters.read_picture(body.image[0], "image", request.owner)
    if body.size == "auto":  # upright, whose sides are those of the file, perhaps the other way round
        request = replace(request, width=picture.width, height=picture.height)
    mask = None
    if body.mask is not None:
        mask = await characters.read_redraw_mask(body.mask, (picture.width, picture.height), "mask", request.owner)
    request = replace(request, redraw=replace(redraw, mask=mask, picture=picture.png))
    references = body.image[1:]
    if not references:
        return request
    regions = stated_regions(body.boxes[1:], body.masks[1:])
    subject = await uploaded_subject(body, references, regions, characters, request.owner)
    return replace(request, subjects=(*request.subjects, subject))


@contextmanager
def _image_errors() -> Iterator[None]:
    try:
        yield
    except StatedRegionError:
        raise
    except DataError as error:
        raise ApiError(400, str(error), "image", "invalid_picture") from None


def redraw_size(width: int, height: int, config: Config) -> str:
    """The size of an image's own redrawing.

    Raises:
        ApiError: the model cannot generate the image's size.
    """
    limit = config.serving.max_side
    if width % 8 or height % 8 or max(width, height) > limit:
        remedy = f"sides must be multiples of 8, at most {limit}: give a size, to which it is resized"
        raise ApiError(400, f"image: {width}x{height} pixels cannot be redrawn; {remedy}", "image", "invalid_size")
    return f"{width}x{height}"


def checked_strength(request: GenerationRequest, field: str) -> GenerationRequest:
    """``request``, if its strength leaves a step.

    Raises:
        ApiError: it does not.
    """
    if request.made_steps < 1:
        raise ApiError(400, f"{field}: of {request.steps} steps none is made; raise it, or steps", field, "too_small")
    return request


async def uploaded_subject(
    body: EditRequest, pictures: list[bytes], regions: Sequence[StatedRegion], characters: Characters, owner: str
) -> RequestedSubject:
    """The subject of uploaded images.

    Raises:
        ApiError: an image cannot be read.
    """
    with _image_errors():
        uploaded = await characters.cut_out_uploads(pictures, "image", owner, regions)
    strengths = body.strength, body.face_strength, body.body_strength
    return RequestedSubject("", body.target_word or "", *strengths, uploaded)
