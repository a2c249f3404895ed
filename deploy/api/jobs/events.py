"""Server-Sent Events of a job.

An event contains the job's current state; events are not stored. A client that reconnects with Last-Event-ID gets the
current state, if it is newer, and the newest preview of each image.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from components.database import UNAVAILABLE
from components.jobs.job import Job, JobNotFoundError, Preview
from deploy.api.jobs.schema import DeletedJobResponse, PreviewEvent
from deploy.api.sse import KEEPALIVE_S
from deploy.interfaces.errors import UnavailableError
from deploy.interfaces.protocols import Jobs
from deploy.interfaces.responses import JobResponse, to_base64

#: Seconds between attempts while the jobs deployment or the database is unavailable.
_RETRY_S = 0.5


async def job_events(
    jobs: Jobs, identifier: str, revision: int, keep_s: float, limit_s: float, owner: str = ""
) -> AsyncGenerator[bytes, None]:
    """Yield states newer than ``revision`` until the job has ended, at most for ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            news = await jobs.watch(identifier, revision, min(left, KEEPALIVE_S), owner)
        except JobNotFoundError:
            yield format_sse_event(event="deleted", data_str=DeletedJobResponse(id=identifier).model_dump_json())
            return
        except (UnavailableError, *UNAVAILABLE):  # the deployment is restarting, or the database; the job is in it
            await asyncio.sleep(_RETRY_S)
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
    """Without an id, so that it is sent again if the client disconnects before the state that follows."""
    event = PreviewEvent(picture=preview.picture, step=preview.step, b64_json=to_base64(preview.png))
    return format_sse_event(event="preview", data_str=event.model_dump_json())


def _state(job: Job, keep_s: float) -> bytes:
    data = JobResponse.of(job, keep_s).model_dump_json(exclude_none=True)
    return format_sse_event(event=job.state if job.state.final else "progress", data_str=data, id=str(job.revision))
