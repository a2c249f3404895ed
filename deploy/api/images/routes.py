"""The routes of pictures."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from components.config import Config
from deploy.api.images.requests import read_order
from deploy.api.images.responses import ANSWERS, Asked, answer
from deploy.api.images.schema import ImageRequest, ImageResponse
from deploy.api.quotas import Caller, caller
from deploy.api.stories.keeping import Keep, keeping
from deploy.interfaces.protocols import Characters, Generator
from deploy.interfaces.stories import Stories


def image_routes(
    config: Config, model: str, characters: Characters, generator: Generator, stories: Stories | None = None
) -> APIRouter:
    """``/v1/images/generations`` over the part that draws them."""
    router = APIRouter(prefix="/v1/images")

    @router.post("/generations", response_model=ImageResponse, response_model_exclude_none=True, responses=ANSWERS)
    async def generate_images(
        wanted: ImageRequest, line: Request, by: Annotated[Caller, Depends(caller)], keep: Keep = None
    ) -> Any:
        started = time.perf_counter()
        order = await read_order(wanted, config, model, characters, by.owner)
        draws = keeping(generator, stories, keep, wanted.prompt, model)
        return await answer(Asked(wanted, order, by, line, started), "image_generation", model, draws)

    return router
