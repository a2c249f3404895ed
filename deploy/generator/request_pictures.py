"""Decodes the pictures of a request: the one to redraw with its mask, and that of its control."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from components.model.control import Control
from deploy.interfaces.requests import GenerationRequest


def decode_pictures(request: GenerationRequest) -> dict[str, Any]:
    """The fields of engine requests that hold pictures, in the request's size; empty without any."""
    size, fields = (request.width, request.height), dict[str, Any]()
    if request.redraw is not None:
        mask = request.redraw.mask
        fields["image"] = _resized(_decoded(request.redraw.picture, "RGB"), size, Image.Resampling.LANCZOS)
        fields["mask_image"] = mask and _resized(_decoded(mask, "L"), size, Image.Resampling.NEAREST)
        fields["strength"] = request.redraw.strength
    if request.control is not None:
        control = request.control
        picture = _resized(_decoded(control.picture, "RGB"), size, Image.Resampling.LANCZOS)
        fields["control"] = Control(control.name, picture, control.scale, control.start, control.end)
    return fields


def _decoded(png: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
        return opened.convert(mode)


def _resized(picture: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    return picture if picture.size == size else picture.resize(size, method)
