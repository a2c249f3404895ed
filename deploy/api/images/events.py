"""Server-Sent Events of image generation, with the names and fields of OpenAI's interface."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from PIL import Image

from components.errors import RealCustomError
from components.jobs.job import Preview
from components.logs import traceback_without_messages
from components.provenance.image_files import encode
from deploy.api.error_responses import error_response
from deploy.api.images.schema import BaseImageRequest, CompletedImageEvent, PartialImageEvent
from deploy.api.sse import KEEPALIVE_S, with_keepalive
from deploy.interfaces.requests import GenerationRequest
from deploy.interfaces.responses import revised_prompt, to_base64
from deploy.interfaces.results import GenerationEvent, GenerationResult

log = logging.getLogger(__name__)


class ImageEvents:
    """Encodes the events of one request.

    Args:
        kind: prefix of the events' types, ``image_generation`` or ``image_edit``.
        model: the model's id in the events.
        started: when the request arrived, by `time.perf_counter`.
        store: stores the events of the finished images before they are sent.
    """

    def __init__(
        self,
        kind: str,
        body: BaseImageRequest,
        request: GenerationRequest,
        model: str,
        started: float,
        store: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._kind, self._body, self._request = kind, body, request
        self._model, self._started, self._store = model, started, store
        #: Previews sent by image index.
        self._sent: Counter[int] = Counter()

    async def encode(self, stream: AsyncGenerator[GenerationEvent, None]) -> AsyncGenerator[bytes, None]:
        """Encode a generator's stream.

        An error before the first event is raised; after it the response has started, and an event ``error`` is sent.
        """
        started = False
        try:
            async with aclosing(with_keepalive(stream, KEEPALIVE_S)) as events:
                async for event in events:
                    if isinstance(event, Preview):
                        if self._sent[event.picture] < self._body.partial_images:
                            yield await self._partial(event)
                    elif isinstance(event, GenerationResult):
                        indices = range(len(event.images))
                        completed = [await asyncio.to_thread(self._completed, event, index) for index in indices]
                        await self._store(b"".join(completed))
                        for each in completed:
                            yield each
                    elif event is None or not started:
                        yield KEEPALIVE_COMMENT
                    started = True
        except Exception as error:
            if not started:
                raise
            if not isinstance(error, RealCustomError):
                log.error("image stream: %s", traceback_without_messages(error))
            yield format_sse_event(event="error", data_str=bytes(error_response(error).body).decode())

    async def _partial(self, preview: Preview) -> bytes:
        index = self._sent[preview.picture]
        self._sent[preview.picture] += 1

        def encode() -> bytes:
            event = PartialImageEvent(
                type=f"{self._kind}.partial_image",
                partial_image_index=index,
                step=preview.step,
                **self._common_fields(preview.picture, self._convert(preview.png)),
            )
            return format_sse_event(event=event.type, data_str=event.model_dump_json())

        return await asyncio.to_thread(encode)

    def _completed(self, result: GenerationResult, index: int) -> bytes:
        image = result.images[index]
        event = CompletedImageEvent(
            type=f"{self._kind}.completed",
            revised_prompt=revised_prompt(result, self._body.prompt),
            masks_b64_json=[to_base64(mask) for mask in image.masks] if self._body.return_masks else None,
            model=self._model,
            model_version=result.model_version,
            seed=self._request.seeds[index],
            target_words=list(result.words),
            timings=result.timings | {"total_s": time.perf_counter() - self._started},
            notes=result.notes,
            **self._common_fields(index, image.image),
        )
        return format_sse_event(event=event.type, data_str=event.model_dump_json(exclude_none=True))

    def _common_fields(self, index: int, data: bytes) -> dict[str, Any]:
        request = self._request
        return {
            "picture": index,
            "b64_json": to_base64(data),
            "created_at": int(time.time()),
            "output_format": request.output.format,
            "size": f"{request.width}x{request.height}",
        }

    def _convert(self, png: bytes) -> bytes:
        """A PNG in the request's output format."""
        if self._request.output.format == "png":
            return png
        with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
            return encode(picture, self._request.output)
