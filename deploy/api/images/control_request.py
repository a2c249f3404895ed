"""The control of a request: a picture that a ControlNet or a T2I-Adapter follows.

Names as in `components.model.control.Control`; ``scale``, ``start`` and ``end`` are diffusers'
``controlnet_conditioning_scale``, ``control_guidance_start`` and ``control_guidance_end``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from components.errors import DataError
from deploy.api.error_responses import ApiError
from deploy.api.schema import StrictRequest, decode_base64
from deploy.interfaces.protocols import Characters
from deploy.interfaces.requests import Binary, GenerationRequest, RequestedControl


class ControlChoice(StrictRequest):
    """A ControlNet or T2I-Adapter that the service has loaded (``model.controls``), and the picture that it follows."""

    name: str = Field(min_length=1, max_length=64)
    #: A PNG, JPEG or WebP in base64, such as a pose or a depth map, as the control was trained on; it is resized to the
    #: size of the generated images. In a form, the file ``control_image``.
    image: Annotated[Binary, BeforeValidator(decode_base64)]
    #: Factor of its influence.
    scale: float = Field(1, ge=0, le=2)
    #: Shares of the steps between which it acts.
    start: float = Field(0, ge=0, lt=1)
    end: float = Field(1, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.end:
            raise ValueError("start must be less than end: they are the shares of the steps between which it acts")
        return self


def _one_control(value: Any) -> Any:
    """Decode the JSON of a form field, and refuse several."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            raise ValueError('must be a JSON object, as {"name": "pose"}') from None
    if isinstance(value, list):
        raise ValueError("a request has one control: give an object with name and image, not a list")
    return value


#: The field ``control`` of a request.
OneControl = Annotated[ControlChoice | None, BeforeValidator(_one_control)]


def with_control_image(sent: Any) -> Any:
    """The fields of a form with the file ``control_image`` in ``control``."""
    if not isinstance(sent, dict) or not sent.get("control_image"):
        return sent
    control = _one_control(sent.get("control"))
    if not isinstance(control, dict):
        raise ValueError('control_image: say in control what follows it, as {"name": "pose"}')
    return sent | {"control": control | {"image": sent["control_image"]}}


def without_picture(control: ControlChoice) -> RequestedControl:
    """A control whose picture is not decoded yet: its other fields are enough for limits of time."""
    return RequestedControl(control.name, b"", control.scale, control.start, control.end)


async def with_control(
    request: GenerationRequest, control: ControlChoice | None, characters: Characters
) -> GenerationRequest:
    """``request`` with its control, whose picture is resized to the size of the images.

    Raises:
        ApiError: the picture cannot be read.
        ContentError: the content policy refuses it.
    """
    if control is None:
        return request
    try:
        size = request.width, request.height
        picture = await characters.read_picture(control.image, "control.image", request.owner, size)
    except DataError as error:
        raise ApiError(400, str(error), "control.image", "invalid_picture") from None
    return replace(request, control=replace(without_picture(control), picture=picture.png))
