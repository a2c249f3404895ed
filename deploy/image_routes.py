"""The routes of pictures."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends

from components.config import Config
from deploy.access import Caller, caller
from deploy.image_schema import ImageRequest, ImageResponse
from deploy.orders import image_response, read_order
from deploy.protocols import Characters, Generator


def image_routes(config: Config, model: str, characters: Characters, generator: Generator) -> APIRouter:
    """``/v1/images`` over the part that draws them."""
    router = APIRouter(prefix="/v1/images")

    @router.post("/generations", response_model_exclude_none=True)
    async def generate_images(request: ImageRequest, by: Annotated[Caller, Depends(caller)]) -> ImageResponse:
        started = time.perf_counter()
        order = await read_order(request, config, model, characters, by.owner)
        async with await by.charge(order):
            delivery = await generator.generate(order)
        return image_response(order, delivery, model, request.return_masks, time.perf_counter() - started)

    return router
