"""``/v1/admin``: jobs, keys, usage and data of all owners, and the audit log. Needs a key with the scope ``admin``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from components.config import Config
from components.jobs.job import State
from components.jobs.store import ID
from components.logs import amend
from deploy.api.admin.schema import (
    AuditPage,
    AuditResponse,
    EraseRequest,
    KeyChange,
    KeyList,
    KeyResponse,
    OwnedJob,
    OwnedJobPage,
    OwnerDayUsage,
    OwnerUsageList,
    ReceiptResponse,
)
from deploy.api.audit_recorder import AuditRecorder
from deploy.api.error_responses import ApiError
from deploy.api.jobs.schema import DeletedJobResponse
from deploy.api.quotas import CurrentCaller
from deploy.api.usage.routes import Days
from deploy.api.usage_counter import UsageCounter
from deploy.interfaces.administration import Administration
from deploy.interfaces.protocols import Jobs

_Owner = Annotated[str, Query(max_length=200, pattern=r"^[A-Za-z0-9._@-]*$")]
_SomeOwner = Annotated[str | None, Query(alias="owner", max_length=200, pattern=r"^[A-Za-z0-9._@-]*$")]
_Limit = Annotated[int, Query(ge=1, le=1000)]
_AUDIT_ID = r"^audit-[0-9a-f]{28}$"
_ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "A zip file", "content": {"application/zip": {}}}}


def _needs_key(caller: CurrentCaller) -> None:
    """Without keys everybody would be an operator."""
    if caller.key is None:
        raise ApiError(403, "the admin API needs serving.access.keys=required", code="keys_required")


def admin_routes(
    config: Config, administration: Administration, jobs: Jobs, counter: UsageCounter, audit: AuditRecorder
) -> APIRouter:
    """The routes of operators.

    Args:
        counter, audit: of this gateway; what they have collected is included in reports.
    """
    router = APIRouter(prefix="/v1/admin", dependencies=[Depends(_needs_key)])
    keep_s = config.serving.jobs.keep_s

    @router.get("/jobs", response_model_exclude_none=True)
    async def list_jobs(
        owner: _SomeOwner = None,
        status: State | None = None,
        limit: _Limit = 20,
        after: Annotated[str | None, Query(pattern=ID)] = None,
    ) -> OwnedJobPage:
        """Jobs of all owners, or of one."""
        found = await administration.jobs(limit + 1, after, owner, status)
        return OwnedJobPage(data=[OwnedJob.seen(job, keep_s) for job in found[:limit]], has_more=len(found) > limit)

    @router.get("/jobs/{identifier}", response_model_exclude_none=True)
    async def get_job(identifier: str) -> OwnedJob:
        return OwnedJob.seen(await administration.job(identifier), keep_s)

    @router.delete("/jobs/{identifier}", response_model_exclude_none=True)
    async def cancel_job(identifier: str) -> OwnedJob | DeletedJobResponse:
        """Cancel any owner's job, or delete one that has ended."""
        found = await administration.job(identifier)
        job = await jobs.cancel(identifier, found.owner)
        return DeletedJobResponse(id=identifier) if job is None else OwnedJob.seen(job, keep_s)

    @router.get("/keys")
    async def list_keys(owner: _SomeOwner = None) -> KeyList:
        return KeyList(data=[KeyResponse.of(key) for key in await administration.keys(owner)])

    @router.patch("/keys/{identifier}")
    async def change_key(identifier: str, change: KeyChange) -> KeyResponse:
        """Change scopes and limits; gateways follow within `serving.access.refresh_s`."""
        return KeyResponse.of(await administration.change_key(identifier, change.model_dump(exclude_unset=True)))

    @router.delete("/keys/{identifier}")
    async def revoke_key(identifier: str) -> KeyResponse:
        return KeyResponse.of(await administration.revoke_key(identifier))

    @router.get("/usage")
    async def usage(owner: _SomeOwner = None, days: Days = 30) -> OwnerUsageList:
        await counter.flush()
        return OwnerUsageList(data=[OwnerDayUsage.of(entry) for entry in await administration.usage(days, owner)])

    @router.get("/audit")
    async def audit_log(
        owner: _SomeOwner = None,
        key: Annotated[str | None, Query(pattern="^[0-9a-f]{0,16}$")] = None,
        limit: _Limit = 100,
        after: Annotated[str | None, Query(pattern=_AUDIT_ID)] = None,
    ) -> AuditPage:
        """Who did what: requests that change something, and all of the admin API."""
        await audit.flush()
        found = await administration.audit(limit + 1, after, owner, key)
        return AuditPage(data=[AuditResponse.of(entry) for entry in found[:limit]], has_more=len(found) > limit)

    @router.get("/export", response_class=StreamingResponse, responses=_ZIP)
    async def export(owner: _Owner) -> Response:
        """Everything of an owner as a zip file, which is made while it is sent."""
        amend(resource=owner)
        await counter.flush()
        await audit.flush()
        headers = {"Content-Disposition": 'attachment; filename="export.zip"'}
        return StreamingResponse(administration.export(owner), media_type="application/zip", headers=headers)

    @router.post("/erase")
    async def erase(body: EraseRequest) -> ReceiptResponse:
        """Erase everything of an owner, keys included; the answer is the receipt."""
        if body.confirm != body.owner:
            raise ApiError(400, "confirm: repeat the owner, as a confirmation", "confirm", "not_confirmed")
        amend(resource=body.owner)
        await counter.flush()
        return ReceiptResponse.of(await administration.erase(body.owner))

    return router
