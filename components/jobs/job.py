"""What a job is, what may become of it, and what whoever works on it holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.errors import NotFoundError, RealCustomError


class JobNotFoundError(NotFoundError):
    """There is no such job, or it is someone else's, or it was kept for as long as was promised."""


class QueueFullError(RealCustomError):
    """As many of the owner's jobs wait as may; a later one may be accepted."""


class QueueBusyError(RealCustomError):
    """As many jobs of all owners wait as may; a later one may be accepted."""


class KeyReusedError(RealCustomError):
    """The idempotency key stands for another request."""


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Standing(StrEnum):
    """What a worker is told about the job it works on."""

    HELD = "held"
    #: Its owner wants it no more.
    CANCELLED = "cancelled"
    #: Another worker has it, or it is gone: whatever comes of it is dropped.
    LOST = "lost"


@dataclass(frozen=True)
class Outlook:
    """How the jobs of all owners stand.

    Args:
        states: how many are in each state.
        oldest_s: how long the oldest queued one has waited.
        mean_s: how long the last few that were done took, from their first attempt's start.
    """

    states: dict[State, int]
    oldest_s: float = 0.0
    mean_s: float = 0.0


@dataclass(frozen=True)
class NewJob:
    """What is submitted.

    Args:
        payload: what a worker is given; JSON.
        digest: of the request; tells another request with the same ``key`` from the same one sent again.
        steps: of all ``pictures`` together.
        key: the owner's name for this request, so that sending it again makes no second job.
        webhook: the URL that is told how it ended.
        collector: the part of the service that takes the result; the job is kept until it has.
    """

    payload: dict[str, Any]
    digest: str
    steps: int
    pictures: int
    owner: str = ""
    key: str | None = None
    webhook: str | None = None
    collector: str | None = None


@dataclass(frozen=True)
class JobProgress:
    """How far a job's pictures are: ``step`` of ``total`` steps of all of them together."""

    step: int
    total: int
    pictures_done: int
    pictures: int


@dataclass(frozen=True)
class Preview:
    """What picture number ``picture`` looked like after so many of its steps, as a small PNG."""

    picture: int
    step: int
    png: bytes
    #: The job's when this was written down.
    revision: int = 0


@dataclass(frozen=True)
class Webhook:
    """Where a job's end is told, and how that went."""

    url: str
    #: ``waiting`` (for the end), ``pending``, ``delivered`` or ``failed``.
    state: str
    attempts: int
    error: str | None


@dataclass(frozen=True)
class Job:
    """One row, as its owner sees it. Ids sort by age; times are in seconds since 1970."""

    id: str
    owner: str
    state: State
    #: Grows with every change but those of the webhook.
    revision: int
    created: float
    started: float | None
    ended: float | None
    attempts: int
    #: It was asked to end, and has not yet.
    cancelling: bool
    progress: JobProgress
    #: Why it failed: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None
    webhook: Webhook | None


@dataclass(frozen=True)
class Lease:
    """A job in the hands of one worker. ``attempt`` counts from 1; ``payload`` is what was submitted."""

    job: str
    token: str
    payload: dict[str, Any]
    attempt: int


@dataclass(frozen=True)
class News:
    """A job, and the previews that are newer than whoever asks has seen, oldest first."""

    job: Job
    previews: list[Preview]
