"""Reads stories, panels, takes and the jobs of panels from their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from components.characters.cast import Cast
from components.jobs.job import State
from components.jobs.tables import jobs
from components.stories.panel_plan import generation_digest
from components.stories.prompts import StoredPrompt, prompt_from_json, render_prompt
from components.stories.story import (
    Balloon,
    PagesLayout,
    Panel,
    PanelCharacter,
    PanelJob,
    PanelLora,
    PanelSampling,
    Story,
    Take,
)
from components.stories.tables import checked, not_found, panel_jobs, panels, stories, takes

_ACTIVE = (State.QUEUED, State.RUNNING)
_TAKE = ("id", "panel", "created", "width", "height", "seed", "model", "model_version", "settings", "digest", "masks")
_STORY = ("id", "owner", "created", "updated", "revision", "changes", "title", "style", "language")
_PANEL = ("id", "revision", "changed", "caption", "size", "seed", "seed_locked", "hidden", "with_characters", "chosen")


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose queries read one snapshot: a job collected meanwhile is read either as job or as take."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        else:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def story_row(connection: sa.Connection, identifier: str, owner: str) -> sa.RowMapping:
    """The row of an owner's story.

    Raises:
        StoryNotFoundError: the owner has no such story.
    """
    mine = (stories.c.id == checked("story", identifier)) & (stories.c.owner == owner)
    row = connection.execute(sa.select(stories).where(mine)).mappings().first()
    if row is None:
        raise not_found("story")
    return row


def panel_rows(connection: sa.Connection, story: str, changed_after: int = -1) -> list[sa.RowMapping]:
    """The rows of a story's panels in order, of those whose ``changed`` is above ``changed_after``."""
    query = sa.select(panels).where(panels.c.story == story, panels.c.changed > changed_after)
    return list(connection.execute(query.order_by(panels.c.position)).mappings())


def read_stories(connection: sa.Connection, rows: Iterable[sa.RowMapping]) -> list[Story]:
    """Stories, without their panels."""
    rows = list(rows)
    among = [row["id"] for row in rows]
    count = sa.select(panels.c.story, sa.func.count()).where(panels.c.story.in_(among)).group_by(panels.c.story)
    counts = {story: number for story, number in connection.execute(count)}
    shown = panels.c.story.in_(among) & panels.c.chosen.is_not(None) & ~panels.c.hidden
    first = sa.select(panels.c.story, sa.func.min(panels.c.position).label("position")).where(shown)
    first_of = first.group_by(panels.c.story).subquery()
    same = (first_of.c.story == panels.c.story) & (first_of.c.position == panels.c.position)
    chosen = sa.select(panels.c.story, panels.c.chosen).join(first_of, same)
    covers = {story: take for story, take in connection.execute(chosen)}
    return [
        Story(
            **{name: row[name] for name in _STORY},
            pages=PagesLayout(**row["pages"]),
            panel_count=counts.get(row["id"], 0),
            cover=covers.get(row["id"]),
        )
        for row in rows
    ]


def read_panels(
    connection: sa.Connection, story: sa.RowMapping, rows: Collection[sa.RowMapping], cast: Cast
) -> list[Panel]:
    """The panels of ``rows``, with their takes and jobs; all belong to ``story``."""
    takes_by_panel = read_takes(connection, story["id"], [row["id"] for row in rows])
    active = read_jobs(connection, story)
    return [_panel(row, story["style"], takes_by_panel[row["id"]], active.get(row["id"], ()), cast) for row in rows]


def read_takes(connection: sa.Connection, story: str, among: Collection[str]) -> Mapping[str, list[Take]]:
    """The takes of panels, newest first."""
    query = sa.select(takes).where(takes.c.story == story)
    if len(among) < 100:
        query = query.where(takes.c.panel.in_(among))
    found: dict[str, list[Take]] = defaultdict(list)
    for row in connection.execute(query.order_by(takes.c.id.desc())).mappings():
        found[row["panel"]].append(read_take(row))
    return found


def read_take(row: sa.RowMapping) -> Take:
    return Take(**{name: row[name] for name in _TAKE})


def active_jobs(*story_ids: str) -> sa.Select[Any]:
    """Selects the jobs of stories' panels that are unfinished or not yet collected."""
    same = (jobs.c.owner == panel_jobs.c.owner) & (jobs.c.idempotency_key == panel_jobs.c.key)
    columns = (panel_jobs.c.story, panel_jobs.c.panel, panel_jobs.c.digest, jobs.c.id, jobs.c.state, jobs.c.revision)
    columns = (*columns, jobs.c.step, jobs.c.total)  # type: ignore[assignment]
    query = sa.select(*columns).join(jobs, same)
    return query.where(panel_jobs.c.story.in_(story_ids), jobs.c.collector.is_not(None)).order_by(jobs.c.id)


def read_jobs(connection: sa.Connection, story: sa.RowMapping) -> dict[str, list[sa.RowMapping]]:
    """The rows of `active_jobs` by panel; running jobs come before queued ones."""
    found: dict[str, list[sa.RowMapping]] = defaultdict(list)
    for row in connection.execute(active_jobs(story["id"])).mappings():
        found[row["panel"]].append(row)
    return {panel: sorted(rows, key=lambda row: row["state"] == State.QUEUED) for panel, rows in found.items()}


def stored_prompt(row: sa.RowMapping) -> StoredPrompt:
    return prompt_from_json(row["prompt"])


def stored_characters(row: sa.RowMapping) -> tuple[PanelCharacter, ...]:
    return tuple(PanelCharacter(**character) for character in row["characters"])


def stored_sampling(row: sa.RowMapping) -> PanelSampling:
    loras = tuple(PanelLora(**lora) for lora in row["loras"] or ())
    return PanelSampling(row["sampler"], row["steps"], row["guidance_scale"], loras)


def to_json(values: Iterable[PanelCharacter | Balloon | PanelLora]) -> list[dict[str, Any]]:
    """The value of a JSON column."""
    return [asdict(value) for value in values]


def panel_digest(row: sa.RowMapping, style: str, cast: Cast) -> str:
    """The `generation_digest` of a panel's current values."""
    settings = (stored_characters(row), row["size"], row["with_characters"])
    return generation_digest(stored_prompt(row), *settings, style, cast, stored_sampling(row))


def is_dirty(row: sa.RowMapping, chosen: Take | None, digest: str) -> bool:
    """Whether a panel's current values differ from those its chosen take was generated with."""
    reseeded = row["seed_locked"] and row["seed"] is not None and chosen is not None and chosen.seed != row["seed"]
    return chosen is None or chosen.digest != digest or reseeded


def _panel(row: sa.RowMapping, style: str, found: list[Take], active: Collection[sa.RowMapping], cast: Cast) -> Panel:
    prompt, mentions = render_prompt(stored_prompt(row), cast)
    chosen = next((take for take in found if take.id == row["chosen"]), None)
    return Panel(
        **{name: row[name] for name in _PANEL},
        prompt=prompt,
        mentions=mentions,
        characters=stored_characters(row),
        balloons=tuple(Balloon(**balloon) for balloon in row["balloons"]),
        takes=tuple(found),
        job=_job(active),
        dirty=is_dirty(row, chosen, panel_digest(row, style, cast)),
        error=row["error"],
        sampling=stored_sampling(row),
    )


def _job(active: Collection[sa.RowMapping]) -> PanelJob | None:
    unfinished = [row for row in active if row["state"] in _ACTIVE] or list(active)
    if not unfinished:
        return None
    first = unfinished[0]
    return PanelJob(first["id"], first["state"], first["revision"], first["step"], first["total"], len(unfinished))
