"""A job's events, as Server-Sent Events.

An event is news of a state, not an entry of a log: who comes back with the id of the last event that they saw is told
what the job is now, if that is newer, and shown the newest preview of each picture.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from components.jobs.job import Job, JobNotFoundError, Preview
from deploy.api.jobs.schema import DeletedJobResponse, JobResponse, PreviewEvent
from deploy.interfaces.protocols import Jobs, UnavailableError

#: Seconds without news after which the line is kept alive, and between questions while nobody answers.
_SILENCE_S = 10.0
_PAUSE_S = 0.5


async def job_events(
    jobs: Jobs, identifier: str, revision: int, keep_s: float, limit_s: float, owner: str = ""
) -> AsyncIterator[bytes]:
    """What is newer than ``revision``, until the job has ended or ``limit_s`` seconds are over."""
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            news = await jobs.watch(identifier, revision, min(left, _SILENCE_S), owner)
        except JobNotFoundError:
            yield format_sse_event(event="deleted", data_str=DeletedJobResponse(id=identifier).model_dump_json())
            return
        except UnavailableError:  # the job is safe; whoever knows it is being restarted
            await asyncio.sleep(_PAUSE_S)
            news = None
        if news is None:
            yield KEEPALIVE_COMMENT
            continue
        for preview in news.previews:
            yield _preview(preview)
        yield _state(news.job, keep_s)
        revision = news.job.revision
        if news.job.state.final:
            return


def _preview(preview: Preview) -> bytes:
    """Without an id: who loses the line before the state that follows sees it again."""
    encoded = base64.b64encode(preview.png).decode("ascii")
    event = PreviewEvent(picture=preview.picture, step=preview.step, b64_json=encoded)
    return format_sse_event(event="preview", data_str=event.model_dump_json())


def _state(job: Job, keep_s: float) -> bytes:
    shown = JobResponse.of(job, keep_s).model_dump_json(exclude_none=True)
    return format_sse_event(event=job.state if job.state.final else "progress", data_str=shown, id=str(job.revision))
