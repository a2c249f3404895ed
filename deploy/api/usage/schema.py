"""The JSON of usage."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import BaseModel

from components.access.limits import DAY_S
from components.access.usage import UsageEntry
from components.config import ServingConfig


class DayUsage(BaseModel):
    """What was used on a day (UTC)."""

    date: datetime.date
    requests: int
    #: Width x height x steps of the generated images.
    pixel_steps: int
    images: int

    @classmethod
    def of(cls, entry: UsageEntry) -> DayUsage:
        return cls(date=usage_date(entry.day), **vars(entry.used))


class StorageUsage(BaseModel):
    """What is stored now."""

    characters: int
    #: Pictures of the characters.
    pictures: int
    stories: int
    #: Generated images of stories.
    takes: int
    #: Generated images of the history that belong to no story.
    generations: int
    #: Bytes of takes and generations.
    bytes: int


class StorageLimits(BaseModel):
    """How much of it may be stored: the configuration's ``serving.quotas`` and ``serving.stories``."""

    characters: int
    pictures: int
    stories: int
    bytes: int

    @classmethod
    def of(cls, serving: ServingConfig) -> StorageLimits:
        quotas, stories = serving.quotas, serving.stories
        return cls(
            characters=quotas.max_characters,
            pictures=quotas.max_pictures,
            stories=stories.max_stories,
            bytes=stories.max_takes_bytes,
        )


class UsageResponse(BaseModel):
    """The caller's own usage: days with any, newest first."""

    object: Literal["usage"] = "usage"
    data: list[DayUsage]
    storage: StorageUsage
    limits: StorageLimits


def usage_date(day: int) -> datetime.date:
    """The date of a day counted from 1970."""
    return datetime.datetime.fromtimestamp(day * DAY_S, datetime.UTC).date()
