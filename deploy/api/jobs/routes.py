"""The routes of jobs: pictures that are drawn while nobody waits on the line."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import StreamingResponse

from components.config import Config
from components.fingerprint import fingerprint
from components.jobs.job import Job, NewJob, State
from components.jobs.store import ID
from deploy.api.error_responses import ApiError
from deploy.api.images.requests import read_order
from deploy.api.images.schema import ImageResponse
from deploy.api.jobs.events import job_events
from deploy.api.jobs.schema import DeletedJobResponse, JobPage, JobRequest, JobResponse
from deploy.api.quotas import Caller, caller
from deploy.interfaces.protocols import Characters, JobOrder, Jobs, Order
from deploy.jobs.webhooks import allowed

#: Share of the longest request after which an event stream ends by itself; clients come back for the rest.
_STREAM_SHARE = 0.9
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-Sent Events", "content": {"text/event-stream": {}}},
    204: {"description": "It has ended, and its end was told"},
}
_By = Annotated[Caller, Depends(caller)]
_Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=255, pattern=r"^[\x21-\x7e]+$")]
_LastEvent = Annotated[int, Header(alias="Last-Event-ID", ge=0, lt=2**31)]


def job_routes(config: Config, model: str, characters: Characters, jobs: Jobs) -> APIRouter:
    """``/v1/jobs`` over the part that keeps them."""
    router = APIRouter(prefix="/v1/jobs")
    limits = config.serving.jobs

    @router.post("", status_code=202, response_model_exclude_none=True)
    async def submit(request: JobRequest, response: Response, by: _By, idempotency_key: _Key = None) -> JobResponse:
        webhook = None if request.webhook is None else request.webhook.url
        if webhook is not None and not allowed(webhook, limits.webhook_origins):
            raise ApiError(
                400, "webhook.url: webhooks to this host are not allowed here", "webhook.url", "webhook_not_allowed"
            )
        order = replace(await read_order(request, config, model, characters, by.owner), timeout_s=limits.timeout_s)
        new = NewJob(
            payload=JobOrder(order.for_later(), request.return_masks, request.partial_images, model).pack(),
            digest=fingerprint(request.model_dump(mode="json", exclude_defaults=True)),
            steps=order.steps * len(order.seeds),
            pictures=len(order.seeds),
            owner=order.owner,
            key=idempotency_key,
            webhook=webhook,
        )
        job, accepted = await submit_job(jobs, new, order, by)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        if not accepted:
            response.headers["Idempotent-Replayed"] = "true"
        return JobResponse.of(job, limits.keep_s)

    @router.get("", response_model_exclude_none=True)
    async def page(
        by: _By,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(pattern=ID)] = None,
    ) -> JobPage:
        found = await jobs.page(limit + 1, after, by.owner)
        data = [JobResponse.of(job, limits.keep_s) for job in found[:limit]]
        return JobPage(data=data, has_more=len(found) > limit)

    @router.get("/{identifier}", response_model_exclude_none=True)
    async def get(identifier: str, by: _By) -> JobResponse:
        job = await jobs.get(identifier, by.owner)
        kept = await jobs.result(identifier, by.owner) if job.state is State.DONE else None
        result = None if kept is None else ImageResponse.model_validate_json(kept)
        return JobResponse.of(job, limits.keep_s, result)

    @router.get("/{identifier}/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(identifier: str, by: _By, last_event_id: _LastEvent = 0) -> Response:
        job = await jobs.get(identifier, by.owner)
        if job.state.final and job.revision <= last_event_id:
            return Response(status_code=204)  # which tells an EventSource not to come back
        limit_s = _STREAM_SHARE * config.serving.request_timeout_s
        told = job_events(jobs, identifier, last_event_id, limits.keep_s, limit_s, by.owner)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)

    @router.delete("/{identifier}", response_model_exclude_none=True)
    async def cancel(identifier: str, by: _By) -> JobResponse | DeletedJobResponse:
        job = await jobs.cancel(identifier, by.owner)
        return DeletedJobResponse(id=identifier) if job is None else JobResponse.of(job, limits.keep_s)

    return router


async def submit_job(jobs: Jobs, new: NewJob, order: Order, by: Caller) -> tuple[Job, bool]:
    """Accept a job, and charge it once: what is known already costs nothing more, and is known whatever is left."""
    known = None if new.key is None else await jobs.known(new)
    if known is not None:
        return known, False
    async with await by.charge(order) as charge:
        job, accepted = await jobs.submit(new)
        if not accepted:
            await charge.give_back()
    return job, accepted
