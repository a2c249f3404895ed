"""The rows of stories, panels, takes and of the jobs that draw panels.

A change of anything in a story begins with an update of the story's row, which counts the change and makes writers of
one story wait for each other.
"""

from __future__ import annotations

import re

import sqlalchemy as sa

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
    # The value of `changes` when the story's own values or its order changed last.
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
    # The value of the story's `changes` when anything of the panel changed last.
    sa.Column("changed", sa.Integer, nullable=False),
    # See `components.stories.prompts.pack_prompt`.
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
    # Seconds since 1970: takes that were drawn earlier are not chosen by themselves.
    sa.Column("chosen_at", sa.Float(53), nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Index("story_panels_by_story", "story", "position"),
)
takes = sa.Table(
    "story_takes",
    _metadata,
    # Made of the job's id and the picture's number in it: a job that is collected twice makes the same takes.
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
#: Jobs whose pictures become takes, from before they are submitted until they are collected.
panel_jobs = sa.Table(
    "story_jobs",
    _metadata,
    # The job's idempotency key.
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("owner", sa.String(200), primary_key=True),
    sa.Column("story", sa.String(48), nullable=False),
    sa.Column("panel", sa.String(48), nullable=False),
    sa.Column("created", sa.Float(53), nullable=False),
    # When the panel was sent to be drawn, and which variation of that it is.
    sa.Column("drawn", sa.Float(53), nullable=False),
    sa.Column("variation", sa.Integer, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Index("story_jobs_by_story", "story", "panel"),
)
#: What was answered to requests with an idempotency key.
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

_STORY, _PANEL, _TAKE = (re.compile(pattern) for pattern in (r"story-\w{28}", r"panel-\w{28}", r"take-\w{30}"))


def checked_story(identifier: str) -> str:
    """The id, which is no path and holds nothing that a database would refuse."""
    if not (_STORY.fullmatch(identifier) and identifier.isascii()):
        raise StoryNotFoundError("there is no such story; list the existing ones")
    return identifier


def checked_panel(identifier: str) -> str:
    if not (_PANEL.fullmatch(identifier) and identifier.isascii()):
        raise PanelNotFoundError("the story has no such panel; look at the existing ones")
    return identifier


def checked_take(identifier: str) -> str:
    if not (_TAKE.fullmatch(identifier) and identifier.isascii()):
        raise TakeNotFoundError("the story has no such take; look at the existing ones")
    return identifier


def take_id(job: str, index: int) -> str:
    """The id of picture number ``index`` of a job; it sorts by the job's age."""
    return f"take-{job.rpartition('-')[2]}{index:02x}"
