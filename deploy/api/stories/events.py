"""Server-Sent Events of a story: one stream for all of its panels.

As with jobs, an event carries the new state. A client that reconnects with the id of its last event gets what has
changed since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel

from components.database import UNAVAILABLE
from components.stories.story import StoryCursor, StoryNews, StoryNotFoundError
from deploy.api.sse import KEEPALIVE_S
from deploy.api.stories.schema import DeletedStoryResponse, PanelResponse, StoryEvent, StoryPreviewEvent, StorySummary
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.responses import to_base64
from deploy.interfaces.stories import Stories

#: Seconds between attempts while the stories deployment or the database is unavailable.
_RETRY_S = 0.5


async def story_events(
    stories: Stories, story: str, changes: int, limit_s: float, owner: str = ""
) -> AsyncGenerator[bytes, None]:
    """The events after ``changes``, until the story is deleted or ``limit_s`` seconds have passed."""
    cursor, deadline = StoryCursor(changes), time.monotonic() + limit_s
    yield KEEPALIVE_COMMENT  # sends the response headers at once
    while (left := deadline - time.monotonic()) > 0:
        try:
            news = await stories.watch(story, cursor, min(left, KEEPALIVE_S), owner)
        except StoryNotFoundError:
            deleted = DeletedStoryResponse(id=story, object="story.deleted")
            yield format_sse_event(event="deleted", data_str=deleted.model_dump_json())
            return
        except (UnavailableError, *UNAVAILABLE):
            await asyncio.sleep(_RETRY_S)
            news = None
        if news is None:
            yield KEEPALIVE_COMMENT
            continue
        for event in _events(story, news):
            yield event
        cursor = news.cursor


def _events(story: str, news: StoryNews) -> Iterator[bytes]:
    """The events of one change. Only the last has an id: a client that reconnects before it gets all of them again."""
    for preview in news.previews:
        encoded = to_base64(preview.png)
        event = StoryPreviewEvent(panel=preview.panel, job=preview.job, step=preview.step, b64_json=encoded)
        yield format_sse_event(event="preview", data_str=event.model_dump_json())
    states: list[tuple[str, BaseModel]] = []
    if news.story is not None:
        states.append(("story", StoryEvent(**StorySummary.fields(news.story), order=list(news.order))))
    states += [("panel", PanelResponse.of(panel, story)) for panel in news.panels]
    for index, (name, data) in enumerate(states, start=1):
        identifier = str(news.cursor.changes) if index == len(states) else None
        yield format_sse_event(event=name, data_str=data.model_dump_json(), id=identifier)
