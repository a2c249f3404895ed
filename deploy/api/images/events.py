"""Pictures in the making, as Server-Sent Events with the names and fields of OpenAI's."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from PIL import Image

from components.errors import RealCustomError
from components.jobs.job import JobProgress, Preview
from components.provenance.image_files import encode
from deploy.api.error_responses import answer_to
from deploy.api.images.requests import revised, to_base64
from deploy.api.images.schema import CompletedImageEvent, PartialImageEvent, PictureRequest
from deploy.api.middleware import places
from deploy.interfaces.protocols import Delivery, Order

log = logging.getLogger(__name__)
T = TypeVar("T")
News = JobProgress | Preview | Delivery
#: Seconds without news after which the line is kept alive.
_SILENCE_S = 10.0


class ImageEvents:
    """The events of one order.

    Args:
        kind: ``image_generation`` or ``image_edit``.
        request: whose order it is.
        model: that the request is answered by.
        started: when the request came, by `time.perf_counter`.
    """

    def __init__(self, kind: str, request: PictureRequest, order: Order, model: str, started: float) -> None:
        self._kind, self._request, self._order = kind, request, order
        self._model, self._started = model, started
        self._shown: Counter[int] = Counter()

    async def tell(self, news: AsyncGenerator[News, None]) -> AsyncGenerator[bytes, None]:
        """The events, to the end.

        What is raised before the first is raised here; after it the answer has begun, and there is an event ``error``.
        """
        begun = False
        try:
            async with aclosing(_with_pauses(news, _SILENCE_S)) as heard:
                async for each in heard:
                    if isinstance(each, Preview):
                        if self._shown[each.picture] < self._request.partial_images:
                            yield await self._partial(each)
                    elif isinstance(each, Delivery):
                        for index in range(len(each.drawings)):
                            yield self._completed(each, index)
                    elif each is None or not begun:
                        yield KEEPALIVE_COMMENT
                    begun = True
        except Exception as error:
            if not begun:
                raise
            if not isinstance(error, RealCustomError):
                log.error("a stream of pictures: %s", places(error))
            yield format_sse_event(event="error", data_str=bytes(answer_to(error).body).decode())

    async def _partial(self, preview: Preview) -> bytes:
        index = self._shown[preview.picture]
        self._shown[preview.picture] += 1
        looked = await asyncio.to_thread(self._in_format, preview.png)
        event = PartialImageEvent(
            type=f"{self._kind}.partial_image",
            partial_image_index=index,
            step=preview.step,
            **self._common(preview.picture, looked),
        )
        return format_sse_event(event=event.type, data_str=event.model_dump_json())

    def _completed(self, delivery: Delivery, index: int) -> bytes:
        drawing, order = delivery.drawings[index], self._order
        event = CompletedImageEvent(
            type=f"{self._kind}.completed",
            revised_prompt=revised(delivery, self._request.prompt),
            masks_b64_json=[to_base64(mask) for mask in drawing.masks] if self._request.return_masks else None,
            model=self._model,
            model_version=delivery.model_version,
            seed=order.seeds[index],
            target_words=list(delivery.words),
            timings=delivery.timings | {"total_s": time.perf_counter() - self._started},
            notes=delivery.notes,
            **self._common(index, drawing.picture),
        )
        return format_sse_event(event=event.type, data_str=event.model_dump_json(exclude_none=True))

    def _common(self, picture: int, data: bytes) -> dict[str, Any]:
        order = self._order
        return {
            "picture": picture,
            "b64_json": to_base64(data),
            "created_at": int(time.time()),
            "output_format": order.output.format,
            "size": f"{order.width}x{order.height}",
        }

    def _in_format(self, png: bytes) -> bytes:
        if self._order.output.format == "png":
            return png
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            return encode(picture, self._order.output)


async def _with_pauses(news: AsyncGenerator[T, None], silence_s: float) -> AsyncGenerator[T | None, None]:
    """What comes, and None whenever nothing has come for so long."""
    queue: asyncio.Queue[T | None] = asyncio.Queue()

    async def hear() -> None:
        try:
            async with aclosing(news):
                async for each in news:
                    queue.put_nowait(each)
        finally:
            queue.put_nowait(None)

    hearing = asyncio.create_task(hear())
    try:
        while True:
            try:
                item = await asyncio.wait_for(queue.get(), silence_s)
            except TimeoutError:
                yield None
                continue
            if item is None:
                await hearing  # which raises what it has failed with
                return
            yield item
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
