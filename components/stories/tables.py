"""The tables of stories, panels, takes and the jobs of panels.

Every write to a story starts with an update of the story's row: it increments ``changes`` and serializes concurrent
writers of one story.
"""

from __future__ import annotations

import re
from typing import Literal

import sqlalchemy as sa

from components.errors import NotFoundError
from components.stories.story import PanelNotFoundError, StoryNotFoundError, TakeNotFoundError

_metadata = sa.MetaData()
stories = sa.Table(
    "stories",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("updated", sa.Float(53), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changes", sa.Integer, nullable=False),
    # The value of `changes` at the last change of the story's own values or its order.
    sa.Column("changed", sa.Integer, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("style", sa.Text, nullable=False),
    sa.Column("language", sa.String(35), nullable=False),
    sa.Column("pages", sa.JSON, nullable=False),
    sa.Index("stories_by_owner", "owner", "id"),
)
panels = sa.Table(
    "story_panels",
    _metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("story", sa.String(48), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    # The value of the story's `changes` at the panel's last change.
    sa.Column("changed", sa.Integer, nullable=False),
    # See `components.stories.prompts.prompt_to_json`.
    sa.Column("prompt", sa.JSON, nullable=False),
    sa.Column("caption", sa.Text, nullable=False),
    sa.Column("characters", sa.JSON, nullable=False),
    sa.Column("size", sa.String(16), nullable=False),
    sa.Column("seed", sa.BigInteger),
    sa.Column("seed_locked", sa.Boolean, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Column("balloons", sa.JSON, nullable=False),
    sa.Column("with_characters", sa.Boolean, nullable=False),
    sa.Column("chosen", sa.String(48)),
    # Seconds since 1970: a take that was requested earlier is not chosen automatically.
    sa.Column("chosen_at", sa.Float(53), nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    # Since 0.3.0; null is the service's default.
    sa.Column("sampler", sa.String(64)),
    sa.Column("steps", sa.Integer),
    sa.Column("guidance_scale", sa.Float(53)),
    sa.Column("loras", sa.JSON(none_as_null=True)),
    sa.Index("story_panels_by_story", "story", "position"),
)
takes = sa.Table(
    "story_takes",
    _metadata,
    # Derived from the job's id and the image's index: collecting a job twice gives the same takes.
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("story", sa.String(48), nullable=False),
    sa.Column("panel", sa.String(48), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("masks", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Index("story_takes_by_panel", "story", "panel", "id"),
    sa.Index("story_takes_by_owner", "owner", "id"),
)
#: Jobs whose images become takes, from before their submission until they are collected.
panel_jobs = sa.Table(
    "story_jobs",
    _metadata,
    # The job's idempotency key.
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("story", sa.String(48), nullable=False),
    sa.Column("panel", sa.String(48), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    # Time of the generation request, and index of the variation in it.
    sa.Column("drawn", sa.Float(53), nullable=False),
    sa.Column("variation", sa.Integer, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Index("story_jobs_by_story", "story", "panel"),
)
#: Responses to requests with an idempotency key.
requests = sa.Table(
    "story_requests",
    _metadata,
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    sa.Column("answer", sa.JSON, nullable=False),
)
TABLES = (stories, panels, takes, panel_jobs, requests)

Kind = Literal["story", "panel", "take"]
_IDS: dict[Kind, re.Pattern[str]] = {
    "story": re.compile(r"story-\w{28}", re.ASCII),
    "panel": re.compile(r"panel-\w{28}", re.ASCII),
    "take": re.compile(r"take-\w{30}", re.ASCII),
}
_ERRORS: dict[Kind, tuple[type[NotFoundError], str]] = {
    "story": (StoryNotFoundError, "there is no such story; list the existing ones"),
    "panel": (PanelNotFoundError, "the story has no such panel; look at the existing ones"),
    "take": (TakeNotFoundError, "the story has no such take; look at the existing ones"),
}


def not_found(kind: Kind) -> NotFoundError:
    """The error of an id without a row."""
    error, message = _ERRORS[kind]
    return error(message)


def checked(kind: Kind, identifier: str) -> str:
    """Validate the form of an identifier, which then is safe in file names and queries, and return it.

    Raises:
        StoryNotFoundError, PanelNotFoundError, TakeNotFoundError: the form is invalid.
    """
    if _IDS[kind].fullmatch(identifier) is None:
        raise not_found(kind)
    return identifier


def take_id(job: str, index: int) -> str:
    """The id of the take of image number ``index`` of a job; it sorts by the job's age."""
    return f"take-{job.rpartition('-')[2]}{index:02x}"
