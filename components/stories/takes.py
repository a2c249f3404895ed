"""From a panel to its takes: what is to be drawn, the jobs that draw it, and their results as takes.

A row in ``story_jobs`` names a job before it is submitted, by its idempotency key. The job in turn is marked as this
store's to collect and is kept until it is. A finished job's pictures are written under names made of the job's id; one
transaction then makes their rows, removes the ``story_jobs`` row and releases the job. Whoever dies in between is
followed by another who does the same again: no take is lost, and none is there twice.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, Field, ValidationError

from components.characters.sweep import sweep
from components.config import StoriesConfig
from components.jobs.job import JobNotFoundError, State
from components.jobs.result_files import ResultFiles
from components.jobs.tables import jobs
from components.object_store import ObjectStore
from components.stories.cast import read_cast
from components.stories.panel_plan import PanelDrawing, plan_drawing
from components.stories.rows import (
    is_dirty,
    panel_digest,
    panel_rows,
    read_jobs,
    read_takes,
    snapshot,
    stored_characters,
    stored_prompt,
    story_row,
)
from components.stories.story import PanelNotFoundError, StoryLimitError, StoryNotFoundError, Take, TakeNotFoundError
from components.stories.tables import checked_take, panel_jobs, panels, stories, take_id, takes
from components.stories.take_files import TakeFiles

log = logging.getLogger(__name__)
#: Who collects the jobs of panels, in the jobs' rows.
COLLECTOR = "stories"
#: Jobs that are collected at a time.
_CHUNK = 16
#: Seconds after which a job that was named and is not there will not come.
_PATIENCE_S = 600.0
_FINAL = (State.DONE, State.FAILED, State.CANCELLED)


class _Image(BaseModel):
    b64_json: str
    masks_b64_json: list[str] = []


class ImageResult(BaseModel):
    """What is read of a job's result."""

    data: list[_Image] = Field(min_length=1)
    size: str = Field(pattern=r"^[1-9]\d*x[1-9]\d*$")
    model: str
    model_version: str
    seed: int


@dataclass(frozen=True)
class PendingTake:
    """A job that is about to be submitted: its idempotency key, and what its picture will be a take of.

    Args:
        drawn: when the panel was sent to be drawn, seconds since 1970.
        variation: which of the pictures of that it is.
        settings: see `components.stories.story.Take`.
    """

    key: str
    panel: str
    drawn: float
    variation: int
    settings: dict[str, Any]
    digest: str


class TakeStore:
    """Plans drawings, collects their jobs, and keeps the takes.

    Args:
        engine: of a database that has `components.stories.tables.TABLES`, and those of characters and jobs.
        blobs: where the takes' files are.
        results: the jobs' results.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        engine: sa.Engine,
        blobs: ObjectStore,
        results: ResultFiles,
        limits: StoriesConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine, self._blobs, self._results = engine, blobs, results
        self._limits, self._clock = limits, clock
        self.files = TakeFiles(blobs)

    def plan(self, story: str, wanted: Sequence[str] | None, n: int, owner: str = "") -> list[PanelDrawing]:
        """What the panels ``wanted`` would be drawn as, each ``n`` times; by default all that are dirty and shown.

        Raises:
            PanelNotFoundError: the story has no such panel.
            StoryLimitError: the owner's pictures take as much room as they may.
        """
        with snapshot(self._engine) as connection:
            row = story_row(connection, story, owner)
            cast, rows = read_cast(connection, owner), panel_rows(connection, story)
            drawn, active = read_takes(connection, story, [r["id"] for r in rows]), read_jobs(connection, row)
            self.refuse_more(connection, owner)
        by_id = {r["id"]: r for r in rows}
        if wanted is not None and not set(wanted) <= by_id.keys():
            raise PanelNotFoundError("panels: the story has no such panel; look at the existing ones")
        plans = []
        for panel in by_id.values() if wanted is None else (by_id[each] for each in dict.fromkeys(wanted)):
            digest = panel_digest(panel, row["style"], cast)
            chosen = next((take for take in drawn[panel["id"]] if take.id == panel["chosen"]), None)
            busy = any(job["digest"] == digest and job["state"] not in _FINAL for job in active.get(panel["id"], ()))
            if wanted is None and (panel["hidden"] or not is_dirty(panel, chosen, digest)):
                continue
            locked = panel["seed"] if panel["seed_locked"] else None
            seeds = tuple(None if locked is None else (locked + i) % 2**32 for i in range(n))
            settings = (stored_prompt(panel), stored_characters(panel), panel["size"], panel["with_characters"])
            plan = plan_drawing(panel["id"], *settings, row["style"], seeds, cast)
            plans.append(plan if wanted is not None or not busy else PanelDrawing(**vars(plan) | {"busy": True}))
        return plans

    def begin(self, story: str, pending: Sequence[PendingTake], owner: str = "") -> None:
        """Name the jobs that are about to be submitted; those that are named already stay."""
        known = sa.select(panel_jobs.c.key).where(panel_jobs.c.owner == owner)
        with self._engine.begin() as connection:
            changes = _touch(connection, story, owner, self._clock())
            named = set(connection.execute(known.where(panel_jobs.c.key.in_([p.key for p in pending]))).scalars())
            rows = [
                vars(each) | {"owner": owner, "story": story, "created": self._clock()}
                for each in pending
                if each.key not in named
            ]
            if rows:
                connection.execute(panel_jobs.insert(), rows)
            of = panels.c.id.in_({each.panel for each in pending})
            connection.execute(panels.update().where(of).values(error=None, changed=changes))

    def abandon(self, keys: Collection[str], owner: str = "") -> None:
        """Jobs that were named are not submitted."""
        named = (panel_jobs.c.owner == owner) & panel_jobs.c.key.in_(keys)
        with self._engine.begin() as connection:
            connection.execute(panel_jobs.delete().where(named))

    def note(self, story: str, errors: Mapping[str, Mapping[str, Any]], owner: str = "") -> None:
        """Say at panels why they are not drawn."""
        with self._engine.begin() as connection:
            changes = _touch(connection, story, owner, self._clock())
            for panel, error in errors.items():
                same = (panels.c.id == panel) & (panels.c.story == story)
                connection.execute(panels.update().where(same).values(error=dict(error), changed=changes))

    def jobs_of(self, story: str, panel: str, owner: str = "") -> list[str]:
        """The ids of the jobs of a panel that have not ended."""
        with self._engine.connect() as connection:
            row = story_row(connection, story, owner)
            if panel not in {each["id"] for each in panel_rows(connection, story)}:
                raise PanelNotFoundError("the story has no such panel; look at the existing ones")
            return [job["id"] for job in read_jobs(connection, row).get(panel, ()) if job["state"] not in _FINAL]

    def collect(self) -> bool:
        """Make takes of some jobs that have ended; False if there are none."""
        ended = sa.select(jobs).where(jobs.c.collector == COLLECTOR, jobs.c.state.in_(_FINAL))
        with self._engine.connect() as connection:
            found = connection.execute(ended.order_by(jobs.c.ended).limit(_CHUNK)).mappings().all()
        for job in found:
            self._collect(job)
        return bool(found)

    def get(self, story: str, take: str, owner: str = "") -> Take:
        with self._engine.connect() as connection:
            story_row(connection, story, owner)
            found = sa.select(takes).where(takes.c.id == checked_take(take), takes.c.story == story)
            row = connection.execute(found).mappings().first()
        if row is None:
            raise TakeNotFoundError("the story has no such take; look at the existing ones")
        return Take(**{name: row[name] for name in Take.__dataclass_fields__})

    def refuse_more(self, connection: sa.Connection, owner: str) -> None:
        """Raise StoryLimitError where the owner's pictures take as much room as they may."""
        if self.used_bytes(connection, owner) >= self._limits.max_takes_bytes:
            limit = f"your pictures take {self._limits.max_takes_bytes:,} bytes, which is all you have"
            raise StoryLimitError(f"{limit}: delete takes, stories or generations first")

    def used_bytes(self, connection: sa.Connection, owner: str) -> int:
        """What the owner's takes take."""
        query = sa.select(sa.func.coalesce(sa.func.sum(takes.c.bytes), 0)).where(takes.c.owner == owner)
        return int(connection.execute(query).scalar_one())

    def sweep(self, older_than_s: float = 3600) -> int:
        """Remove files without rows, and names of jobs that never came; returns how many files."""
        same = (jobs.c.owner == panel_jobs.c.owner) & (jobs.c.idempotency_key == panel_jobs.c.key)
        waits = sa.select(jobs.c.id).where(same, jobs.c.collector.is_not(None)).exists()
        with self._engine.begin() as connection:
            old = panel_jobs.c.created < self._clock() - _PATIENCE_S
            connection.execute(panel_jobs.delete().where(old, ~waits))
        return sweep(self._blobs, "story", self._wanted, older_than_s)

    def _collect(self, job: sa.RowMapping) -> None:
        """Make takes of one job that has ended, or write its error down."""
        named = (panel_jobs.c.owner == job["owner"]) & (panel_jobs.c.key == job["idempotency_key"])
        with self._engine.connect() as connection:
            pending = connection.execute(sa.select(panel_jobs).where(named)).mappings().first()
        answer, error, size = None, job["error"], 0
        if pending is not None and job["state"] == State.DONE:
            try:
                answer = ImageResult.model_validate_json(self._results.read(job["id"], job["token"]))
            except (JobNotFoundError, ValidationError):
                log.error("job %s: its result is gone", job["id"])
                error = {"message": "the picture was lost: draw the panel again", "param": None, "code": "result_lost"}
            else:
                size = self._write(pending["story"], job["id"], answer)
        with self._engine.begin() as connection:
            self._conclude(connection, job, pending, answer, error, size)

    def _write(self, story: str, job: str, answer: ImageResult) -> int:
        """Write the pictures of a result; returns their bytes."""
        size = 0
        for index, drawn in enumerate(answer.data):
            picture, masks = base64.b64decode(drawn.b64_json), [base64.b64decode(m) for m in drawn.masks_b64_json]
            self.files.write(story, take_id(job, index), picture, masks)
            size += len(picture) + sum(map(len, masks))
        return size

    def _conclude(
        self,
        connection: sa.Connection,
        job: sa.RowMapping,
        pending: sa.RowMapping | None,
        answer: ImageResult | None,
        error: Mapping[str, Any] | None,
        size: int,
    ) -> None:
        """In one transaction: the takes, what becomes of the panel, and that the job is collected."""
        changes = None
        if pending is not None:
            try:
                changes = _touch(connection, pending["story"], pending["owner"], self._clock())
            except StoryNotFoundError:  # deleted meanwhile
                pending = None
        collected = (jobs.c.id == job["id"]) & (jobs.c.collector == COLLECTOR)
        if not connection.execute(jobs.update().where(collected).values(collector=None)).rowcount:
            return  # another process was quicker
        named = (panel_jobs.c.owner == job["owner"]) & (panel_jobs.c.key == job["idempotency_key"])
        if pending is None or not connection.execute(panel_jobs.delete().where(named)).rowcount:
            return  # the panel is deleted: nobody waits for the takes, and their files are swept away
        panel = panels.c.id == pending["panel"]
        change: dict[str, Any] = {"changed": changes}
        if error is not None:
            change["error"] = dict(error)
        if answer is not None:
            rows = _take_rows(job, pending, answer, size, self._clock())
            connection.execute(takes.insert(), rows)
            first = pending["variation"] == 0
            at = sa.select(panels.c.chosen_at).where(panel).scalar_subquery()
            chosen_at = connection.execute(sa.select(at)).scalar_one()
            # The newest drawing is chosen, the first of its variations; unless somebody has chosen since.
            if pending["drawn"] > chosen_at or (pending["drawn"] == chosen_at and first):
                change |= {"chosen": rows[0]["id"], "chosen_at": pending["drawn"]}
        connection.execute(panels.update().where(panel).values(**change))

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        """The files of takes that there are."""
        query = sa.select(takes.c.story, takes.c.id).where(takes.c.story.in_(folders))
        with self._engine.connect() as connection:
            known = {f"{row.story}/{row.id}" for row in connection.execute(query)}
        return {name for name in names if name.partition(".")[0] in known}


def _take_rows(
    job: sa.RowMapping, pending: sa.RowMapping, answer: ImageResult, size: int, now: float
) -> list[dict[str, Any]]:
    width, height = (int(side) for side in answer.size.split("x"))
    common = {name: pending[name] for name in ("story", "panel", "owner", "digest", "settings")}
    common |= {"created": job["ended"] or now, "width": width, "height": height, "model": answer.model}
    common |= {"model_version": answer.model_version, "bytes": size // max(1, len(answer.data))}
    return [
        common | {"id": take_id(job["id"], index), "seed": answer.seed + index, "masks": len(drawn.masks_b64_json)}
        for index, drawn in enumerate(answer.data)
    ]


def _touch(connection: sa.Connection, story: str, owner: str, now: float) -> int:
    """Count a change of a story, which others wait for until the transaction ends."""
    mine = (stories.c.id == story) & (stories.c.owner == owner)
    counted = stories.update().where(mine).values(changes=stories.c.changes + 1, updated=now)
    changes = connection.execute(counted.returning(stories.c.changes)).scalar()
    if changes is None:
        raise StoryNotFoundError("there is no such story; list the existing ones")
    return int(changes)
