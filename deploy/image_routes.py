"""The routes of pictures."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from components.config import Config
from deploy.access import Caller, caller
from deploy.image_answers import ANSWERS, Asked, answer
from deploy.image_schema import ImageRequest, ImageResponse
from deploy.orders import read_order
from deploy.protocols import Characters, Generator


def image_routes(config: Config, model: str, characters: Characters, generator: Generator) -> APIRouter:
    """``/v1/images/generations`` over the part that draws them."""
    router = APIRouter(prefix="/v1/images")

    @router.post("/generations", response_model=ImageResponse, response_model_exclude_none=True, responses=ANSWERS)
    async def generate_images(wanted: ImageRequest, line: Request, by: Annotated[Caller, Depends(caller)]) -> Any:
        started = time.perf_counter()
        order = await read_order(wanted, config, model, characters, by.owner)
        return await answer(Asked(wanted, order, by, line, started), "image_generation", model, generator)

    return router
