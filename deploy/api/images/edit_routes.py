"""One-step pictures: references come with the request, are looked at for it alone, and are kept nowhere."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile

from components.config import Config
from components.errors import DataError, WordError
from components.model.words import find_word
from deploy.api.error_responses import ApiError
from deploy.api.images.edit_schema import MAX_REFERENCES, EditRequest, form_schema
from deploy.api.images.requests import check_model, make_order
from deploy.api.images.responses import ANSWERS, Asked, answer
from deploy.api.images.schema import ImageResponse
from deploy.api.quotas import Caller, caller
from deploy.api.stories.keeping import Keep, keeping
from deploy.interfaces.protocols import Characters, CharacterUse, Generator, Order
from deploy.interfaces.stories import Stories

#: The names that clients give to one picture, and to several.
_IMAGES = ("image", "image[]")
#: The form is read by hand, so it is described by hand.
_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form_schema()}}}}
_NO_WORD = "target_word: the prompt must contain it as a whole word, within what the model reads"


def edit_routes(
    config: Config, model: str, characters: Characters, generator: Generator, stories: Stories | None = None
) -> APIRouter:
    """``/v1/images/edits`` over the part that looks at pictures and the one that draws them."""
    router = APIRouter(prefix="/v1/images")

    @router.post(
        "/edits",
        response_model=ImageResponse,
        response_model_exclude_none=True,
        responses=ANSWERS,
        openapi_extra=_BODY,
    )
    async def edit_images(line: Request, by: Annotated[Caller, Depends(caller)], keep: Keep = None) -> Any:
        started = time.perf_counter()
        wanted = await _read_form(line)
        order = await _read_order(wanted, config, model, characters, by.owner)
        draws = keeping(generator, stories, keep, wanted.prompt, model)
        try:
            return await answer(Asked(wanted, order, by, line, started), "image_edit", model, draws)
        except WordError:
            raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt") from None

    return router


async def _read_order(wanted: EditRequest, config: Config, model: str, characters: Characters, owner: str) -> Order:
    """The order of a picture with the subject that the references show.

    Raises:
        ApiError: a field is beyond its limit, a picture cannot be read, or the prompt does not hold the word.
    """
    check_model(wanted, model)
    word = wanted.target_word or ""
    if word and not find_word(wanted.prompt, word):
        raise ApiError(400, _NO_WORD, "target_word", "target_word_not_in_prompt")
    make_order(wanted, config, wanted.prompt, [])  # what is beyond a limit need not be looked at
    try:
        shown = await characters.show(wanted.image, "image")
    except DataError as error:
        raise ApiError(400, str(error), "image", "invalid_picture") from None
    subject = CharacterUse("", word, wanted.strength, wanted.face_strength, wanted.body_strength, shown)
    return make_order(wanted, config, wanted.prompt, [subject], owner)


async def _read_form(line: Request) -> EditRequest:
    kind = line.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "send multipart/form-data with the pictures as files", code="content_type")
    fields_at_most = len(EditRequest.model_fields)
    async with line.form(max_files=MAX_REFERENCES + 2, max_fields=fields_at_most) as form:
        sent = {key: value for key, value in form.multi_items() if key not in _IMAGES}
        fields: dict[str, object] = {
            key: await value.read() if isinstance(value, UploadFile) else value for key, value in sent.items()
        }
        images = [value for name in _IMAGES for value in form.getlist(name)]
        fields["image"] = [await image.read() if isinstance(image, UploadFile) else image for image in images]
        return EditRequest.model_validate(fields)
