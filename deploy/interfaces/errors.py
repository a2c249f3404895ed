"""Errors that cross the borders of the service's parts, and how every error is shown to a client."""

from __future__ import annotations

from typing import NamedTuple

from components.access.limits import QuotaError
from components.access.store import KeyNotFoundError
from components.characters.candidates import CandidateNotFoundError
from components.characters.character import PictureCountError, PictureNotFoundError
from components.characters.storage_quotas import StorageQuotaError
from components.content import ContentError
from components.database import UNAVAILABLE
from components.errors import DataError, KeyReusedError, NotFoundError, RealCustomError, WordError
from components.history.generation import GenerationNotFoundError
from components.jobs.job import JobNotFoundError, QueueBusyError, QueueFullError
from components.jobs.webhook_settings import WebhookRefusedError
from components.object_store import StoreUnavailableError
from components.stories.export.book import NothingToExportError
from components.stories.story import (
    OrderMismatchError,
    PanelNotFoundError,
    RevisionError,
    StoryLimitError,
    StoryNotFoundError,
    TakeNotFoundError,
)


class UnsupportedRequestError(RealCustomError):
    """The generator cannot execute a valid request with this model; ``param`` is the field at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param)
        self.message, self.param = message, param

    def __str__(self) -> str:
        return self.message


class BeyondTimeLimitError(RealCustomError):
    """The request would take longer than it may; ``param`` is the field at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param)
        self.message, self.param = message, param

    def __str__(self) -> str:
        return self.message


class StatedRegionError(DataError):
    """A box or a mask does not fit its image; the message begins with its place, such as ``boxes[1]``."""

    @property
    def param(self) -> str:
        return str(self).partition(":")[0].partition("[")[0]


class UnavailableError(RealCustomError):
    """The service cannot take the request now; a retry may succeed, after ``retry_after_s`` seconds if known."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ReplicaDiedError(UnavailableError):
    """The replica died while it worked on the request, perhaps because of it.

    Args:
        alone: it worked on nothing else, and was replaced because it made no progress.
    """

    def __init__(self, message: str, alone: bool = False) -> None:
        super().__init__(message)
        self.alone = alone


class TimeLimitError(UnavailableError):
    """The images were not done within the request's time limit."""


class BusyError(UnavailableError):
    """Too many requests are queued; this one was not started."""


class OwnerLimitError(BusyError):
    """Too many requests of the same owner are queued; this one was not started."""


class ErrorDetails(NamedTuple):
    """What a client is told about an error: HTTP status, message, field at fault and machine-readable code."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None


#: Status, param and code by exception class; the first class that matches is used.
_DETAILS: dict[type[RealCustomError], tuple[int, str | None, str]] = {
    WordError: (400, "characters", "target_word_not_in_prompt"),
    DataError: (400, "pictures", "invalid_picture"),
    ContentError: (400, None, "content_policy"),
    JobNotFoundError: (404, None, "job_not_found"),
    CandidateNotFoundError: (404, "candidates", "candidates_not_found"),
    PictureNotFoundError: (404, None, "picture_not_found"),
    GenerationNotFoundError: (404, None, "generation_not_found"),
    StoryNotFoundError: (404, None, "story_not_found"),
    PanelNotFoundError: (404, None, "panel_not_found"),
    TakeNotFoundError: (404, None, "take_not_found"),
    OrderMismatchError: (409, "panels", "order_mismatch"),
    RevisionError: (412, "If-Match", "revision_mismatch"),
    NothingToExportError: (409, None, "nothing_to_export"),
    StoryLimitError: (409, None, "limit_reached"),
    StorageQuotaError: (409, None, "storage_quota_exceeded"),
    PictureCountError: (409, "pictures", "picture_count"),
    KeyNotFoundError: (404, None, "key_not_found"),
    NotFoundError: (404, None, "character_not_found"),
    KeyReusedError: (409, "Idempotency-Key", "idempotency_key_reused"),
    QuotaError: (429, None, "insufficient_quota"),
    WebhookRefusedError: (400, "webhook.url", "webhook_not_allowed"),
    QueueFullError: (429, None, "queue_full"),
    QueueBusyError: (503, None, "overloaded"),
    OwnerLimitError: (429, None, "queue_full"),
    BusyError: (503, None, "overloaded"),
    UnavailableError: (503, None, "unavailable"),
}


def describe_error(error: Exception) -> ErrorDetails:
    """The details that a client is shown; an unexpected error becomes 500 without its message."""
    if isinstance(error, UnsupportedRequestError):
        return ErrorDetails(400, str(error), error.param, "invalid_order")
    if isinstance(error, BeyondTimeLimitError):
        return ErrorDetails(400, str(error), error.param, "beyond_time_limit")
    if isinstance(error, StatedRegionError):
        return ErrorDetails(400, str(error), error.param, "invalid_region")
    for kind, (status, param, code) in _DETAILS.items():
        if isinstance(error, kind):
            return ErrorDetails(status, str(error), param, code)
    if isinstance(error, UNAVAILABLE):
        return ErrorDetails(503, "the database does not answer; try again", None, "unavailable")
    if isinstance(error, StoreUnavailableError):
        return ErrorDetails(503, "the store does not answer; try again", None, "unavailable")
    return ErrorDetails(500, "internal error")
