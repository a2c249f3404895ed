"""Types of jobs: the request, its states, the lease of the worker that runs it, and its errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.access.limits import Cost
from components.errors import NotFoundError, RealCustomError


class JobNotFoundError(NotFoundError):
    """The job does not exist, belongs to another owner, or has expired."""


class QueueFullError(RealCustomError):
    """The owner has as many queued jobs as allowed; a later submission may be accepted."""


class QueueBusyError(RealCustomError):
    """All owners together have as many queued jobs as allowed; a later submission may be accepted."""


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class LeaseStatus(StrEnum):
    """The state of a worker's lease."""

    HELD = "held"
    #: The owner has cancelled the job.
    CANCELLED = "cancelled"
    #: Another worker has the job, or it was deleted: this attempt's result is dropped.
    LOST = "lost"


@dataclass(frozen=True)
class QueueStatus:
    """Statistics of the jobs of all owners.

    Args:
        states: number of jobs in each state.
        oldest_s: age of the oldest queued job in seconds.
        mean_s: mean duration of the last completed jobs in seconds, from the start of their first attempt.
    """

    states: dict[State, int]
    oldest_s: float = 0.0
    mean_s: float = 0.0


@dataclass(frozen=True)
class NewJob:
    """A job to submit.

    Args:
        payload: input of the worker, as JSON.
        digest: hash of the request; tells a repeated request from another one with the same ``key``.
        steps: denoising steps of all ``pictures`` together.
        key: idempotency key, unique for each owner: a repeated request makes no second job.
        webhook: URL that receives the result.
        collector: the part of the service that collects the result; the job is stored until it has.
    """

    payload: dict[str, Any]
    digest: str
    steps: int
    pictures: int
    owner: str = ""
    key: str | None = None
    webhook: str | None = None
    collector: str | None = None
    #: What the job is charged when it is accepted, and refunded if it fails; None charges nothing.
    cost: Cost | None = None
    #: The API key that submits the job; empty if API keys are off.
    key_id: str = ""
    #: Width x height x steps of all pictures, which are counted when the job is done.
    pixel_steps: int = 0
    #: The HTTP request that submits the job, for logs.
    request_id: str = ""


@dataclass(frozen=True)
class JobProgress:
    """Progress of a job: ``step`` of ``total`` denoising steps of all its pictures together."""

    step: int
    total: int
    pictures_done: int
    pictures: int


@dataclass(frozen=True)
class Preview:
    """A small PNG of picture number ``picture`` after ``step`` of its steps."""

    picture: int
    step: int
    png: bytes
    #: The revision of the job when the preview was stored.
    revision: int = 0


@dataclass(frozen=True)
class Webhook:
    """The webhook of a job and the state of its delivery."""

    url: str
    #: ``waiting`` (the job has not ended), ``pending``, ``delivered`` or ``failed``.
    state: str
    attempts: int
    error: str | None


@dataclass(frozen=True)
class Job:
    """A job as its owner sees it. Ids sort by age; times are in seconds since 1970."""

    id: str
    owner: str
    state: State
    #: Incremented by every change except those of the webhook.
    revision: int
    created: float
    started: float | None
    ended: float | None
    attempts: int
    #: Cancellation was requested, and the worker has not stopped yet.
    cancelling: bool
    progress: JobProgress
    #: Why it failed: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None
    webhook: Webhook | None


@dataclass(frozen=True)
class Lease:
    """The right of one worker to run a job. ``attempt`` counts from 1; ``payload`` is that of the submitted job."""

    job: str
    token: str
    payload: dict[str, Any]
    attempt: int
    #: Who submitted the job, for logs.
    owner: str = ""
    key_id: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class JobUpdate:
    """A job and its previews since a given revision, oldest first."""

    job: Job
    previews: list[Preview]
