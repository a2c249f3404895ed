"""Plans the generation of panels, tracks the panels' jobs, and stores their results as takes.

A row in ``story_jobs`` holds a job's idempotency key before the job is submitted. The job names this store as its
collector and is not deleted before it is collected. The images of a finished job are written under names derived from
the job's id; one transaction then inserts the takes, deletes the ``story_jobs`` row and clears the job's collector.
After a crash in between, the next collector repeats the same writes: no take is lost or duplicated.
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

from components.characters.cast import read_cast
from components.characters.sweep import sweep
from components.config import StoriesConfig
from components.jobs.job import JobNotFoundError, State
from components.jobs.result_files import ResultFiles
from components.jobs.tables import jobs
from components.object_store import ObjectStore
from components.stories.panel_plan import PanelPlan, plan_panel
from components.stories.rows import (
    is_dirty,
    panel_digest,
    panel_rows,
    read_jobs,
    read_takes,
    snapshot,
    stored_characters,
    stored_prompt,
    stored_sampling,
    story_row,
)
from components.stories.story import PanelNotFoundError, StoryLimitError, StoryNotFoundError, Take
from components.stories.tables import checked, not_found, panel_jobs, panels, stories, take_id, takes
from components.stories.take_files import TakeFiles

log = logging.getLogger(__name__)
#: ``collector`` of panel jobs.
COLLECTOR = "stories"
#: Jobs per call of `TakeStore.collect`.
_CHUNK = 16
#: Seconds after which the row of a job that was not submitted is deleted.
_SUBMISSION_TIMEOUT_S = 600.0
_FINAL = (State.DONE, State.FAILED, State.CANCELLED)


class _EncodedImage(BaseModel):
    b64_json: str
    masks_b64_json: list[str] = []


class ImageResult(BaseModel):
    """The fields of a job's result that takes need."""

    data: list[_EncodedImage] = Field(min_length=1)
    size: str = Field(pattern=r"^[1-9]\d*x[1-9]\d*$")
    model: str
    model_version: str
    seed: int


@dataclass(frozen=True)
class PendingTake:
    """A job that is about to be submitted: its idempotency key, and the panel that its image becomes a take of.

    Args:
        drawn: time of the generation request, seconds since 1970.
        variation: index of the image in the request.
        settings: see `components.stories.story.Take`.
    """

    key: str
    panel: str
    drawn: float
    variation: int
    settings: dict[str, Any]
    digest: str


class TakeStore:
    """Plans generations, collects their jobs, and stores the takes.

    Args:
        engine: of a database that has `components.stories.tables.TABLES`, and those of characters and jobs.
        blobs: the store of the takes' files.
        results: the results of jobs.
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

    def plan(self, story: str, wanted: Sequence[str] | None, n: int, owner: str = "") -> list[PanelPlan]:
        """Plan ``n`` images of each of the panels ``wanted``; by default of all that are dirty and not hidden.

        Raises:
            PanelNotFoundError: the story has no such panel.
            StoryLimitError: the owner's images use all of their quota.
        """
        with snapshot(self._engine) as connection:
            row = story_row(connection, story, owner)
            cast, rows = read_cast(connection, owner), panel_rows(connection, story)
            found, active = read_takes(connection, story, [r["id"] for r in rows]), read_jobs(connection, row)
            self.check_quota(connection, owner)
        by_id = {r["id"]: r for r in rows}
        if wanted is not None and not set(wanted) <= by_id.keys():
            raise PanelNotFoundError("panels: the story has no such panel; look at the existing ones")
        plans = []
        for panel in by_id.values() if wanted is None else (by_id[each] for each in dict.fromkeys(wanted)):
            digest = panel_digest(panel, row["style"], cast)
            chosen = next((take for take in found[panel["id"]] if take.id == panel["chosen"]), None)
            busy = any(job["digest"] == digest and job["state"] not in _FINAL for job in active.get(panel["id"], ()))
            if wanted is None and (panel["hidden"] or not is_dirty(panel, chosen, digest)):
                continue
            locked = panel["seed"] if panel["seed_locked"] else None
            seeds = tuple(None if locked is None else (locked + i) % 2**32 for i in range(n))
            settings = (stored_prompt(panel), stored_characters(panel), panel["size"], panel["with_characters"])
            plan = plan_panel(panel["id"], *settings, row["style"], seeds, cast, stored_sampling(panel))
            plans.append(plan if wanted is not None or not busy else PanelPlan(**vars(plan) | {"busy": True}))
        return plans

    def register_jobs(self, story: str, pending: Sequence[PendingTake], owner: str = "") -> None:
        """Insert rows for jobs that are about to be submitted; existing rows are left unchanged."""
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

    def unregister_jobs(self, keys: Collection[str], owner: str = "") -> None:
        """Delete the rows of jobs that were not submitted."""
        named = (panel_jobs.c.owner == owner) & panel_jobs.c.key.in_(keys)
        with self._engine.begin() as connection:
            connection.execute(panel_jobs.delete().where(named))

    def record_errors(self, story: str, errors: Mapping[str, Mapping[str, Any]], owner: str = "") -> None:
        """Store the errors of panels for which no job was submitted."""
        with self._engine.begin() as connection:
            changes = _touch(connection, story, owner, self._clock())
            for panel, error in errors.items():
                same = (panels.c.id == panel) & (panels.c.story == story)
                connection.execute(panels.update().where(same).values(error=dict(error), changed=changes))

    def jobs_of(self, story: str, panel: str, owner: str = "") -> list[str]:
        """The ids of a panel's unfinished jobs."""
        with self._engine.connect() as connection:
            row = story_row(connection, story, owner)
            if panel not in {each["id"] for each in panel_rows(connection, story)}:
                raise not_found("panel")
            return [job["id"] for job in read_jobs(connection, row).get(panel, ()) if job["state"] not in _FINAL]

    def collect(self) -> bool:
        """Collect up to `_CHUNK` finished jobs; False if there were none."""
        ended = sa.select(jobs).where(jobs.c.collector == COLLECTOR, jobs.c.state.in_(_FINAL))
        with self._engine.connect() as connection:
            found = connection.execute(ended.order_by(jobs.c.ended).limit(_CHUNK)).mappings().all()
        for job in found:
            self._collect(job)
        return bool(found)

    def get(self, story: str, take: str, owner: str = "") -> Take:
        with self._engine.connect() as connection:
            story_row(connection, story, owner)
            found = sa.select(takes).where(takes.c.id == checked("take", take), takes.c.story == story)
            row = connection.execute(found).mappings().first()
        if row is None:
            raise not_found("take")
        return Take(**{name: row[name] for name in Take.__dataclass_fields__})

    def check_quota(self, connection: sa.Connection, owner: str) -> None:
        """Raise StoryLimitError if the owner's images use all of their quota."""
        if self.used_bytes(connection, owner) >= self._limits.max_takes_bytes:
            limit = f"your pictures take {self._limits.max_takes_bytes:,} bytes, which is all you have"
            raise StoryLimitError(f"{limit}: delete takes, stories or generations first")

    def used_bytes(self, connection: sa.Connection, owner: str) -> int:
        """Total bytes of the owner's takes."""
        query = sa.select(sa.func.coalesce(sa.func.sum(takes.c.bytes), 0)).where(takes.c.owner == owner)
        return int(connection.execute(query).scalar_one())

    def sweep(self, older_than_s: float = 3600) -> int:
        """Delete files without rows, and rows of jobs that were never submitted; returns the number of files."""
        self.expire()
        return self.remove_orphans(older_than_s)

    def expire(self) -> None:
        """Delete rows of jobs that were never submitted."""
        same = (jobs.c.owner == panel_jobs.c.owner) & (jobs.c.idempotency_key == panel_jobs.c.key)
        waits = sa.select(jobs.c.id).where(same, jobs.c.collector.is_not(None)).exists()
        with self._engine.begin() as connection:
            old = panel_jobs.c.created < self._clock() - _SUBMISSION_TIMEOUT_S
            connection.execute(panel_jobs.delete().where(old, ~waits))

    def remove_orphans(self, older_than_s: float = 3600) -> int:
        """Remove files without rows that are older than ``older_than_s``; returns how many. Lists the whole store."""
        return sweep(self._blobs, "story", self._wanted, older_than_s)

    def _collect(self, job: sa.RowMapping) -> None:
        """Store the takes of a finished job, or its error."""
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
            self._finish_job(connection, job, pending, answer, error, size)

    def _write(self, story: str, job: str, answer: ImageResult) -> int:
        """Write the images of a result; returns their total size in bytes."""
        size = 0
        for index, image in enumerate(answer.data):
            picture, masks = base64.b64decode(image.b64_json), [base64.b64decode(m) for m in image.masks_b64_json]
            self.files.write(story, take_id(job, index), picture, masks)
            size += len(picture) + sum(map(len, masks))
        return size

    def _finish_job(
        self,
        connection: sa.Connection,
        job: sa.RowMapping,
        pending: sa.RowMapping | None,
        answer: ImageResult | None,
        error: Mapping[str, Any] | None,
        size: int,
    ) -> None:
        """Insert the takes, update the panel and clear the job's collector; runs in one transaction."""
        changes = None
        if pending is not None:
            try:
                changes = _touch(connection, pending["story"], pending["owner"], self._clock())
            except StoryNotFoundError:  # deleted meanwhile
                pending = None
        collected = (jobs.c.id == job["id"]) & (jobs.c.collector == COLLECTOR)
        if not connection.execute(jobs.update().where(collected).values(collector=None)).rowcount:
            return  # another process has collected it
        named = (panel_jobs.c.owner == job["owner"]) & (panel_jobs.c.key == job["idempotency_key"])
        if pending is None or not connection.execute(panel_jobs.delete().where(named)).rowcount:
            return  # the panel is deleted; `sweep` removes the files
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
            # Chooses the first variation of the newest request, unless the user has chosen a take since.
            if pending["drawn"] > chosen_at or (pending["drawn"] == chosen_at and first):
                change |= {"chosen": rows[0]["id"], "chosen_at": pending["drawn"]}
        connection.execute(panels.update().where(panel).values(**change))

    def _wanted(self, folders: Sequence[str], names: Sequence[str]) -> set[str]:
        """The names that belong to existing takes."""
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
        common | {"id": take_id(job["id"], index), "seed": answer.seed + index, "masks": len(image.masks_b64_json)}
        for index, image in enumerate(answer.data)
    ]


def _touch(connection: sa.Connection, story: str, owner: str, now: float) -> int:
    """Increment a story's ``changes``, which locks its row until the transaction ends; returns the new value."""
    mine = (stories.c.id == story) & (stories.c.owner == owner)
    counted = stories.update().where(mine).values(changes=stories.c.changes + 1, updated=now)
    changes = connection.execute(counted.returning(stories.c.changes)).scalar()
    if changes is None:
        raise not_found("story")
    return int(changes)
