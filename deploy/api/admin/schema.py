"""The JSON of the admin API."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from components.access.audit import AuditEntry
from components.access.key import ApiKey, Scope
from components.access.usage import UsageEntry
from components.jobs.job import Job
from components.owners.erasure import Receipt
from deploy.api.schema import StrictRequest
from deploy.api.usage.schema import DayUsage
from deploy.interfaces.responses import JobResponse


class OwnedJob(JobResponse):
    """A job of any owner, without its images."""

    owner: str

    @classmethod
    def seen(cls, job: Job, keep_s: float) -> OwnedJob:
        """``keep_s`` is the time after its end for which a job is kept."""
        return cls(owner=job.owner, **vars(JobResponse.of(job, keep_s)))


class OwnedJobPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[OwnedJob]
    has_more: bool


class KeyResponse(BaseModel):
    """An API key without its secret; times are in seconds since 1970."""

    id: str
    owner: str
    name: str
    scopes: list[Scope]
    #: None is unlimited.
    requests_per_minute: int | None
    pixel_steps_per_day: int | None
    created: int
    expires: int | None
    revoked: int | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyResponse:
        return cls(
            id=key.id,
            owner=key.owner,
            name=key.name,
            scopes=sorted(key.scopes),
            requests_per_minute=key.limits.requests_per_minute,
            pixel_steps_per_day=key.limits.pixel_steps_per_day,
            created=int(key.created),
            expires=None if key.expires is None else int(key.expires),
            revoked=None if key.revoked is None else int(key.revoked),
        )


class KeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyResponse]


class KeyChange(StrictRequest):
    """Fields that are not sent stay as they are, scopes too; null removes a limit."""

    scopes: list[Scope] = Field(default_factory=list, min_length=1, max_length=20)
    requests_per_minute: int | None = Field(None, ge=1, lt=2**31)
    pixel_steps_per_day: int | None = Field(None, ge=1, lt=2**63)


class OwnerDayUsage(DayUsage):
    owner: str

    @classmethod
    def of(cls, entry: UsageEntry) -> OwnerDayUsage:
        return cls(owner=entry.owner, **vars(DayUsage.of(entry)))


class OwnerUsageList(BaseModel):
    """Usage per owner and day, newest first."""

    object: Literal["list"] = "list"
    data: list[OwnerDayUsage]


class AuditResponse(BaseModel):
    """Who did what; ``owner`` and ``key`` are empty for commands on the machine of the database."""

    id: str
    at: float
    owner: str
    key: str
    action: str
    resource: str
    outcome: str
    request: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditResponse:
        return cls(**vars(entry))


class AuditPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[AuditResponse]
    has_more: bool


class EraseRequest(StrictRequest):
    """Whose data are erased. ``confirm`` repeats the owner."""

    owner: str = Field(max_length=200)
    confirm: str = Field(max_length=200)


class ReceiptResponse(BaseModel):
    """What was erased: rows and ids by kind, and files; ``kept`` rows are those of the audit log."""

    object: Literal["receipt"] = "receipt"
    owner: str
    at: float
    rows: dict[str, int]
    ids: dict[str, list[str]]
    files: int
    kept: dict[str, int]

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptResponse:
        return cls(**vars(receipt))
