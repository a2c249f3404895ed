"""``/v1/jobs``: image generation in the background."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from components.access.limits import QuotaError
from components.config import Config
from components.fingerprint import fingerprint
from components.jobs.job import Job, NewJob, State
from components.jobs.store import ID
from components.logs import amend, log_context
from deploy.api.images.control_request import with_control
from deploy.api.images.request_conversion import resolve_request
from deploy.api.jobs.events import job_events
from deploy.api.jobs.schema import DeletedJobResponse, JobPage, JobRequest
from deploy.api.large_responses import with_stored_member
from deploy.api.quotas import Caller, CurrentCaller, quota_refusal
from deploy.api.repeated_requests import IdempotencyHeader
from deploy.api.sse import EventStreamResponse
from deploy.api.time_limits import TimeLimits
from deploy.interfaces.protocols import Characters, Jobs
from deploy.interfaces.requests import GenerationRequest, JobPayload
from deploy.interfaces.responses import JobResponse

log = logging.getLogger(__name__)
#: An event stream ends after this share of the request timeout; clients then reconnect.
_STREAM_SHARE = 0.9
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-Sent Events", "content": {"text/event-stream": {}}},
    204: {"description": "The job has ended, and the client has its last event"},
}
_LastEventId = Annotated[int, Header(alias="Last-Event-ID", ge=0, lt=2**31)]


def job_routes(config: Config, model: str, characters: Characters, jobs: Jobs, time_limits: TimeLimits) -> APIRouter:
    """The routes of jobs."""
    router = APIRouter(prefix="/v1/jobs")
    limits = config.serving.jobs

    @router.post("", status_code=202, response_model_exclude_none=True)
    async def submit(
        body: JobRequest, response: Response, caller: CurrentCaller, idempotency_key: IdempotencyHeader = None
    ) -> JobResponse:
        digest = fingerprint(body.model_dump(mode="json", exclude_defaults=True))
        if idempotency_key is not None:  # a repeated request is answered also when its characters are gone
            sent = NewJob(payload={}, digest=digest, steps=0, pictures=0, owner=caller.owner, key=idempotency_key)
            existing = await jobs.find_existing(sent)
            if existing is not None:
                return answer(response, existing, False)
        request = await resolve_request(body, config, model, characters, caller.owner)
        request = replace(request, timeout_s=limits.timeout_s)
        await time_limits.check(request)
        if body.control is not None:
            await caller.check(request)
        request = await with_control(request, body.control, characters)
        new = NewJob(
            payload=JobPayload(request.without_revisions(), body.return_masks, body.partial_images, model).to_json(),
            digest=digest,
            steps=request.unet_calls * len(request.seeds),
            pictures=len(request.seeds),
            owner=request.owner,
            key=idempotency_key,
            webhook=None if body.webhook is None else body.webhook.url,
        )
        return answer(response, *await submit_job(jobs, new, request, caller))

    def answer(response: Response, job: Job, accepted: bool) -> JobResponse:
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        if not accepted:
            response.headers["Idempotent-Replayed"] = "true"
        return JobResponse.of(job, limits.keep_s)

    @router.get("", response_model_exclude_none=True)
    async def page(
        caller: CurrentCaller,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(pattern=ID)] = None,
    ) -> JobPage:
        found = await jobs.page(limit + 1, after, caller.owner)
        data = [JobResponse.of(job, limits.keep_s) for job in found[:limit]]
        return JobPage(data=data, has_more=len(found) > limit)

    @router.get("/{identifier}", response_model=JobResponse, response_model_exclude_none=True)
    async def get(identifier: str, caller: CurrentCaller) -> Any:
        job = await jobs.get(identifier, caller.owner)
        shown = JobResponse.of(job, limits.keep_s)
        stored = await jobs.result(identifier, caller.owner) if job.state is State.DONE else None
        return shown if stored is None else with_stored_member(shown, "result", stored)

    @router.get("/{identifier}/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(identifier: str, caller: CurrentCaller, last_event_id: _LastEventId = 0) -> Response:
        job = await jobs.get(identifier, caller.owner)
        if job.state.final and job.revision <= last_event_id:
            return Response(status_code=204)  # tells an EventSource not to reconnect
        limit_s = _STREAM_SHARE * config.serving.request_timeout_s
        return EventStreamResponse(job_events(jobs, identifier, last_event_id, limits.keep_s, limit_s, caller.owner))

    @router.delete("/{identifier}", response_model_exclude_none=True)
    async def cancel(identifier: str, caller: CurrentCaller) -> JobResponse | DeletedJobResponse:
        job = await jobs.cancel(identifier, caller.owner)
        return DeletedJobResponse(id=identifier) if job is None else JobResponse.of(job, limits.keep_s)

    return router


async def submit_job(jobs: Jobs, new: NewJob, request: GenerationRequest, caller: Caller) -> tuple[Job, bool]:
    """Submit a job and charge for it, once per idempotency key, in one transaction.

    A repeated submission is looked up first, so that it succeeds also when the quota is used up.
    """
    existing = None if new.key is None else await jobs.find_existing(new)
    if existing is not None:
        return existing, False
    try:
        charged = replace(new, cost=caller.cost(request), pixel_steps=request.pixel_steps)
        job, accepted = await jobs.submit(replace(charged, key_id=caller.key_id, request_id=log_context().request))
    except QuotaError as error:
        raise quota_refusal(error) from None
    amend(job=job.id)
    if accepted:
        log.info("job %s: submitted", job.id)
    return job, accepted
