"""A story's events, as Server-Sent Events: one stream for all of its panels.

As with jobs, an event is news of a state. Who comes back with the id of the last event that they saw is told what has
changed since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel

from components.stories.story import StoryCursor, StoryNews, StoryNotFoundError
from deploy.api.sse import KEEPALIVE_S
from deploy.api.stories.schema import DeletedStoryResponse, PanelResponse, StoryEvent, StoryPreviewEvent, StorySummary
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.responses import to_base64
from deploy.interfaces.stories import Stories

#: Seconds between attempts while the stories deployment is unavailable.
_RETRY_S = 0.5


async def story_events(
    stories: Stories, story: str, changes: int, limit_s: float, owner: str = ""
) -> AsyncGenerator[bytes, None]:
    """What is newer than ``changes``, until the story is deleted or ``limit_s`` seconds are over."""
    cursor, deadline = StoryCursor(changes), time.monotonic() + limit_s
    yield KEEPALIVE_COMMENT  # the answer begins at once
    while (left := deadline - time.monotonic()) > 0:
        try:
            news = await stories.watch(story, cursor, min(left, KEEPALIVE_S), owner)
        except StoryNotFoundError:
            gone = DeletedStoryResponse(id=story, object="story.deleted")
            yield format_sse_event(event="deleted", data_str=gone.model_dump_json())
            return
        except UnavailableError:
            await asyncio.sleep(_RETRY_S)
            news = None
        if news is None:
            yield KEEPALIVE_COMMENT
            continue
        for event in _events(story, news):
            yield event
        cursor = news.cursor


def _events(story: str, news: StoryNews) -> Iterator[bytes]:
    """Only the last has an id: who loses the line before it sees all of them again."""
    for preview in news.previews:
        encoded = to_base64(preview.png)
        shown = StoryPreviewEvent(panel=preview.panel, job=preview.job, step=preview.step, b64_json=encoded)
        yield format_sse_event(event="preview", data_str=shown.model_dump_json())
    states: list[tuple[str, BaseModel]] = []
    if news.story is not None:
        states.append(("story", StoryEvent(**StorySummary.fields(news.story), order=list(news.order))))
    states += [("panel", PanelResponse.of(panel, story)) for panel in news.panels]
    for index, (event, data) in enumerate(states, start=1):
        identifier = str(news.cursor.changes) if index == len(states) else None
        yield format_sse_event(event=event, data_str=data.model_dump_json(), id=identifier)
