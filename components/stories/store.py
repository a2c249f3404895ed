"""The store of stories and their panels: create, read, edit, order, delete.

Stories and panels are rows; the images of takes are files, see `components.stories.takes`. Several processes, and with
a database server several machines, may use one store at the same time: each edit is one transaction that first updates
the story's row, and an edit with an outdated revision changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from components.access.limits import RequestId
from components.characters.cast import Cast, read_cast
from components.characters.tables import new_id
from components.config import StoriesConfig
from components.jobs.tables import previews
from components.stories.prompts import parse_prompt, prompt_to_json, update_names
from components.stories.rows import (
    active_jobs,
    panel_rows,
    read_panels,
    read_stories,
    snapshot,
    stored_prompt,
    story_row,
    to_json,
)
from components.stories.stored_responses import delete_responses, find_response, store_response
from components.stories.story import (
    SAMPLING,
    OrderMismatchError,
    PagesLayout,
    Panel,
    PanelNotFoundError,
    PanelValues,
    RevisionError,
    Story,
    StoryCursor,
    StoryLimitError,
    StoryNews,
    StoryPreview,
    StoryValues,
    TakeNotFoundError,
)
from components.stories.tables import (
    checked,
    not_found,
    panel_jobs,
    panels,
    requests,
    stories,
    takes,
)

T = TypeVar("T")
#: Values in the ``IN`` of one query.
_MOST_PARAMETERS = 500
#: Fields of a panel that are stored unconverted.
_UNCONVERTED = ("caption", "size", "seed", "seed_locked", "hidden", "with_characters", *SAMPLING)
#: Inputs of the generation: editing one clears the error of the last generation.
_INPUTS = frozenset({"prompt", "characters", "size", "with_characters", "loras", *SAMPLING})


class Deleted(NamedTuple):
    """What deleted rows leave behind: jobs to cancel, and takes whose files are to be removed."""

    jobs: list[str]
    takes: list[str]


class StoryStore:
    """Methods that take an id raise StoryNotFoundError, PanelNotFoundError or TakeNotFoundError, also if it belongs to
    another owner.

    Args:
        engine: of a database that has `components.stories.tables.TABLES`, and those of characters and jobs.
        clock: seconds since 1970.
    """

    def __init__(self, engine: sa.Engine, limits: StoriesConfig, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._limits, self._clock = engine, limits, clock

    def create(
        self,
        values: StoryValues,
        panels_of: Sequence[PanelValues] = (),
        owner: str = "",
        request: RequestId | None = None,
    ) -> tuple[Story, bool]:
        """Create a story; returns it, and False if the same request has created it before.

        Raises:
            StoryLimitError: the owner has the most stories allowed, or there are too many panels.
            KeyReusedError: the key was used for another request.
        """

        def create(connection: sa.Connection) -> dict[str, Any]:
            own = sa.select(sa.func.count()).where(stories.c.owner == owner).select_from(stories)
            if connection.execute(own).scalar_one() >= self._limits.max_stories:
                raise StoryLimitError(f"you have {self._limits.max_stories} stories: delete one first")
            identifier, now = new_id("story"), self._clock()
            row = {"id": identifier, "owner": owner, "created": now, "updated": now, "title": "", "style": ""}
            row |= {"revision": 1, "changes": 1, "changed": 1, "language": "en", "pages": PagesLayout()}
            row |= values
            connection.execute(stories.insert().values(**row | {"pages": asdict(row["pages"])}))  # type: ignore[call-overload]
            self._insert_panels(connection, identifier, 1, panels_of, 0, read_cast(connection, owner))
            return {"story": identifier}

        answer, new = self._run_once(create, owner, request)
        return self.get(answer["story"], owner), new

    def page(self, limit: int = 20, after: str | None = None, owner: str = "") -> list[Story]:
        """Up to ``limit`` of an owner's stories, without panels, newest first, older than the id ``after``."""
        query = sa.select(stories).where(stories.c.owner == owner).order_by(stories.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(stories.c.id < checked("story", after))
        with self._engine.connect() as connection:
            return read_stories(connection, connection.execute(query).mappings())

    def get(self, identifier: str, owner: str = "") -> Story:
        """A story with its panels."""
        with snapshot(self._engine) as connection:
            row = story_row(connection, identifier, owner)
            cast, rows = read_cast(connection, owner), panel_rows(connection, identifier)
            (story,) = read_stories(connection, [row])
            found = tuple(read_panels(connection, row, rows, cast))
        self._update_names(rows, cast)
        return Story(**vars(story) | {"panels": found})

    def get_panel(self, story: str, panel: str, owner: str = "") -> Panel:
        with snapshot(self._engine) as connection:
            row = story_row(connection, story, owner)
            (found,) = read_panels(
                connection, row, [_panel_row(connection, story, panel)], read_cast(connection, owner)
            )
        return found

    def change(self, identifier: str, values: StoryValues, owner: str = "", expected: int | None = None) -> Story:
        """Edit a story's own values.

        Raises:
            RevisionError: ``expected`` is outdated.
        """
        row: dict[str, Any] = dict(values)
        if "pages" in values:
            row["pages"] = asdict(values["pages"])
        with self._engine.begin() as connection:
            self._touch(connection, identifier, owner, expected, edited=True, values=row)
        return self.get(identifier, owner)

    def delete(self, identifier: str, owner: str = "", expected: int | None = None) -> Deleted:
        """Delete a story's rows.

        Raises:
            RevisionError: ``expected`` is outdated.
        """
        with self._engine.begin() as connection:
            self._touch(connection, identifier, owner, expected, edited=True)
            left = self._delete_takes_and_jobs(connection, identifier, sa.true())
            connection.execute(panels.delete().where(panels.c.story == identifier))
            connection.execute(stories.delete().where(stories.c.id == identifier))
        return left

    def add_panels(
        self,
        story: str,
        values: Sequence[PanelValues],
        after: str | None = None,
        owner: str = "",
        request: RequestId | None = None,
    ) -> tuple[list[Panel], bool]:
        """Insert panels after the panel ``after``, at the ``"start"``, or by default at the end; see `create`.

        Raises:
            StoryLimitError: the story would have too many panels.
            KeyReusedError: the key was used for another request.
        """

        def add(connection: sa.Connection) -> dict[str, Any]:
            row = self._touch(connection, story, owner, edited=True)
            at = _position_after(connection, story, after)
            later = (panels.c.story == story) & (panels.c.position >= at)
            connection.execute(panels.update().where(later).values(position=panels.c.position + len(values)))
            cast = read_cast(connection, owner)
            return {"panels": self._insert_panels(connection, story, row["changes"], values, at, cast)}

        answer, new = self._run_once(add, owner, request)
        return self._panels(story, owner, answer["panels"]), new

    def duplicate(
        self, story: str, panel: str, owner: str = "", request: RequestId | None = None
    ) -> tuple[Panel, bool]:
        """Insert a copy of a panel after it, without takes; see `create`. Without a seed it gets the chosen take's."""

        def duplicate(connection: sa.Connection) -> dict[str, Any]:
            row = self._touch(connection, story, owner, edited=True)
            original = _panel_row(connection, story, panel)
            self._check_panel_limit(connection, story, 1)
            later = (panels.c.story == story) & (panels.c.position > original["position"])
            connection.execute(panels.update().where(later).values(position=panels.c.position + 1))
            seed = sa.select(takes.c.seed).where(takes.c.id == original["chosen"]).scalar_subquery()
            copy = dict(original) | {"id": new_id("panel"), "position": original["position"] + 1, "revision": 1}
            copy |= {"changed": row["changes"], "chosen": None, "chosen_at": 0.0, "error": None}
            if original["seed"] is None:
                copy["seed"] = connection.execute(sa.select(seed)).scalar()
            connection.execute(panels.insert().values(**copy))
            return {"panels": [copy["id"]]}

        answer, new = self._run_once(duplicate, owner, request)
        return self._panels(story, owner, answer["panels"])[0], new

    def change_panel(
        self,
        story: str,
        panel: str,
        values: PanelValues,
        owner: str = "",
        expected: int | None = None,
        chosen: str | None = None,
    ) -> Panel:
        """Edit a panel and optionally choose one of its takes.

        Raises:
            RevisionError: ``expected`` is outdated.
            TakeNotFoundError: the panel has no such take.
        """
        with self._engine.begin() as connection:
            touched = self._touch(connection, story, owner)
            row = _panel_row(connection, story, panel)
            _check_revision(row, expected, touched["revision"])
            changed = self._panel_values(values, read_cast(connection, owner), row)
            if chosen is not None:
                changed |= {"chosen": _take_row(connection, panel, chosen)["id"], "chosen_at": self._clock()}
            locked = changed.get("seed_locked", row["seed_locked"])
            if locked and changed.get("seed", row["seed"]) is None:
                shown = changed.get("chosen", row["chosen"])
                changed["seed"] = connection.execute(sa.select(takes.c.seed).where(takes.c.id == shown)).scalar()
            if _INPUTS & changed.keys():
                changed["error"] = None
            changed |= {"revision": row["revision"] + 1, "changed": touched["changes"]}
            connection.execute(panels.update().where(panels.c.id == panel).values(**changed))
        return self.get_panel(story, panel, owner)

    def delete_panel(self, story: str, panel: str, owner: str = "", expected: int | None = None) -> Deleted:
        """Delete the rows of a panel and its takes.

        Raises:
            RevisionError: ``expected`` is outdated.
        """
        with self._engine.begin() as connection:
            touched = self._touch(connection, story, owner, edited=True)
            _check_revision(_panel_row(connection, story, panel), expected, touched["revision"])
            left = self._delete_takes_and_jobs(connection, story, panel_jobs.c.panel == panel, takes.c.panel == panel)
            connection.execute(panels.delete().where(panels.c.id == panel))
        return left

    def order(self, story: str, identifiers: Sequence[str], owner: str = "", expected: int | None = None) -> Story:
        """Reorder all panels.

        Raises:
            OrderMismatchError: ``identifiers`` does not contain each panel once.
            RevisionError: ``expected`` is outdated.
        """
        with self._engine.begin() as connection:
            self._touch(connection, story, owner, expected, edited=True)
            present = set(connection.execute(sa.select(panels.c.id).where(panels.c.story == story)).scalars())
            if len(identifiers) != len(present) or set(identifiers) != present:
                raise OrderMismatchError("panels: name each panel of the story once; it may have others by now")
            moved = panels.update().where(panels.c.id == sa.bindparam("panel")).values(position=sa.bindparam("at"))
            if identifiers:
                connection.execute(moved, [{"panel": panel, "at": at} for at, panel in enumerate(identifiers)])
        return self.get(story, owner)

    def delete_take(self, story: str, take: str, owner: str = "") -> None:
        """Delete a take's row; if it was chosen, the newest remaining take is chosen instead."""
        with self._engine.begin() as connection:
            touched = self._touch(connection, story, owner)
            mine = (takes.c.id == checked("take", take)) & (takes.c.story == story)
            row = connection.execute(sa.select(takes.c.panel).where(mine)).first()
            if row is None:
                raise not_found("take")
            connection.execute(takes.delete().where(mine))
            newest = sa.select(sa.func.max(takes.c.id)).where(takes.c.panel == row.panel).scalar_subquery()
            was = (panels.c.id == row.panel) & (panels.c.chosen == take)
            connection.execute(panels.update().where(was).values(chosen=newest))
            changed = panels.update().where(panels.c.id == row.panel).values(changed=touched["changes"])
            connection.execute(changed)

    def news(self, story: str, cursor: StoryCursor, owner: str = "") -> StoryNews | None:
        """The changes since ``cursor``; None if there are none."""
        with snapshot(self._engine) as connection:
            row = story_row(connection, story, owner)
            active = connection.execute(active_jobs(story)).mappings().all()
            current = StoryCursor(row["changes"], {job["id"]: job["revision"] for job in active})
            if not cursor.is_behind(current):
                return None
            moved = [job for job in active if cursor.jobs.get(job["id"]) != job["revision"]]
            working = {job["panel"] for job in moved}
            rows = [p for p in panel_rows(connection, story) if p["changed"] > cursor.changes or p["id"] in working]
            own = row["changed"] > cursor.changes
            order = sa.select(panels.c.id).where(panels.c.story == story).order_by(panels.c.position)
            return StoryNews(
                cursor=current,
                story=read_stories(connection, [row])[0] if own else None,
                order=tuple(connection.execute(order).scalars()) if own else (),
                panels=tuple(read_panels(connection, row, rows, read_cast(connection, owner))),
                previews=_previews(connection, moved, cursor),
            )

    def cursors(self, identifiers: Sequence[str]) -> dict[str, StoryCursor]:
        """The current position of each of these stories that exists, of whatever owner."""
        found: dict[str, StoryCursor] = {}
        with snapshot(self._engine) as connection:
            for start in range(0, len(identifiers), _MOST_PARAMETERS):
                some = identifiers[start : start + _MOST_PARAMETERS]
                query = sa.select(stories.c.id, stories.c.changes).where(stories.c.id.in_(some))
                found |= {row.id: StoryCursor(row.changes) for row in connection.execute(query)}
                for job in connection.execute(active_jobs(*some)).mappings():
                    if job["story"] in found:
                        found[job["story"]].jobs[job["id"]] = job["revision"]
        return found

    def sweep(self, keep_s: float) -> None:
        """Delete responses to requests with keys that are older than ``keep_s`` seconds."""
        with self._engine.begin() as connection:
            delete_responses(connection, self._clock() - keep_s)

    def _run_once(
        self, make: Callable[[sa.Connection], dict[str, Any]], owner: str, request: RequestId | None
    ) -> tuple[dict[str, Any], bool]:
        """Run ``make`` in a transaction; for a repeated request, return its stored response and False instead."""
        while True:
            with self._engine.connect() as connection:
                known = find_response(connection, owner, request)
            if known is not None:
                return known, False
            try:
                with self._engine.begin() as connection:
                    answer = make(connection)
                    store_response(connection, owner, request, answer, self._clock())
            except IntegrityError:
                if request is None or not self._has_response(owner, request):
                    raise
                continue
            return answer, True

    def _has_response(self, owner: str, request: RequestId) -> bool:
        query = sa.select(requests.c.key).where(requests.c.owner == owner, requests.c.key == request.key)
        with self._engine.connect() as connection:
            return connection.execute(query).first() is not None

    def _touch(
        self,
        connection: sa.Connection,
        story: str,
        owner: str,
        expected: int | None = None,
        edited: bool = False,
        values: Mapping[str, Any] = {},
    ) -> sa.RowMapping:
        """Increment a story's ``changes``, which locks its row until the transaction ends; returns the updated row."""
        mine = (stories.c.id == checked("story", story)) & (stories.c.owner == owner)
        if expected is not None:
            mine &= stories.c.revision == expected
        counted: dict[str, Any] = {"changes": stories.c.changes + 1, "updated": self._clock()}
        if edited:
            counted |= {"revision": stories.c.revision + 1, "changed": stories.c.changes + 1}
        update = stories.update().where(mine).values(**counted, **values).returning(stories)
        row = connection.execute(update).mappings().first()
        if row is None:
            current = story_row(connection, story, owner)["revision"]
            raise RevisionError("the story has changed since you read it; read it again", current)
        return row

    def _insert_panels(
        self, connection: sa.Connection, story: str, changes: int, values: Sequence[PanelValues], at: int, cast: Cast
    ) -> list[str]:
        self._check_panel_limit(connection, story, len(values))
        rows: list[dict[str, Any]] = [
            {"id": new_id("panel"), "story": story, "position": at + index, "revision": 1, "changed": changes}
            | {"chosen": None, "chosen_at": 0.0, "error": None}
            | self._panel_values(_EMPTY | each, cast)  # type: ignore[operator]
            for index, each in enumerate(values)
        ]
        if rows:
            connection.execute(panels.insert(), rows)
        return [row["id"] for row in rows]

    def _check_panel_limit(self, connection: sa.Connection, story: str, more: int) -> None:
        count = sa.select(sa.func.count()).where(panels.c.story == story).select_from(panels)
        if connection.execute(count).scalar_one() + more > self._limits.max_panels:
            raise StoryLimitError(f"a story has at most {self._limits.max_panels} panels")

    def _panel_values(self, values: PanelValues, cast: Cast, before: sa.RowMapping | None = None) -> dict[str, Any]:
        """Values of a panel as columns of its row; ``before`` is the present row."""
        row: dict[str, Any] = {name: value for name, value in values.items() if name in _UNCONVERTED}
        if "prompt" in values:
            old = () if before is None else stored_prompt(before)
            row["prompt"] = prompt_to_json(parse_prompt(values["prompt"], cast, old))
        if "characters" in values:
            row["characters"] = to_json(values["characters"])
        if "balloons" in values:
            row["balloons"] = to_json(values["balloons"])
        if "loras" in values:
            row["loras"] = to_json(values["loras"])
        return row

    def _delete_takes_and_jobs(
        self,
        connection: sa.Connection,
        story: str,
        of_jobs: sa.ColumnElement[bool],
        of_takes: sa.ColumnElement[bool] | None = None,
    ) -> Deleted:
        """Delete the rows of takes and panel jobs that the conditions select."""
        active = [row["id"] for row in connection.execute(active_jobs(story).where(of_jobs)).mappings()]
        connection.execute(panel_jobs.delete().where(panel_jobs.c.story == story, of_jobs))
        mine = (takes.c.story == story) & (sa.true() if of_takes is None else of_takes)
        deleted = list(connection.execute(takes.delete().where(mine).returning(takes.c.id)).scalars())
        return Deleted(active, deleted)

    def _panels(self, story: str, owner: str, identifiers: Iterable[str]) -> list[Panel]:
        """The panels with these ids, in the same order; those deleted meanwhile are left out."""
        wanted = list(identifiers)
        with snapshot(self._engine) as connection:
            row = story_row(connection, story, owner)
            rows = [each for each in panel_rows(connection, story) if each["id"] in set(wanted)]
            found = {panel.id: panel for panel in read_panels(connection, row, rows, read_cast(connection, owner))}
        if not found and wanted:
            raise PanelNotFoundError("the panels of this request have been deleted since")
        return [found[identifier] for identifier in wanted if identifier in found]

    def _update_names(self, rows: Iterable[sa.RowMapping], cast: Cast) -> None:
        """Store the current names of mentioned characters, which are shown after a character is deleted."""
        stale = []
        for row in rows:
            fresh = prompt_to_json(update_names(stored_prompt(row), cast))
            if fresh != row["prompt"]:
                stale.append({"panel": row["id"], "read": row["revision"], "fresh": fresh})
        if stale:
            same = (panels.c.id == sa.bindparam("panel")) & (panels.c.revision == sa.bindparam("read"))
            with self._engine.begin() as connection:
                connection.execute(panels.update().where(same).values(prompt=sa.bindparam("fresh")), stale)


#: All editable fields: rows that are inserted together have the same columns.
_EMPTY: PanelValues = {
    "prompt": "",
    "caption": "",
    "characters": [],
    "size": "auto",
    "seed": None,
    "seed_locked": False,
    "hidden": False,
    "balloons": [],
    "with_characters": True,
    "sampler": None,
    "steps": None,
    "guidance_scale": None,
    "loras": [],
}


def _panel_row(connection: sa.Connection, story: str, panel: str) -> sa.RowMapping:
    query = sa.select(panels).where(panels.c.id == checked("panel", panel), panels.c.story == story)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise not_found("panel")
    return row


def _take_row(connection: sa.Connection, panel: str, take: str) -> sa.RowMapping:
    query = sa.select(takes).where(takes.c.id == checked("take", take), takes.c.panel == panel)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise TakeNotFoundError("chosen: the panel has no such take; look at the existing ones")
    return row


def _check_revision(row: sa.RowMapping, expected: int | None, revision: int) -> None:
    if expected is not None and row["revision"] != expected:
        raise RevisionError("the panel has changed since you read it; read it again", revision)


def _position_after(connection: sa.Connection, story: str, after: str | None) -> int:
    if after == "start":
        return 0
    if after is not None:
        return int(_panel_row(connection, story, after)["position"]) + 1
    last = connection.execute(sa.select(sa.func.max(panels.c.position)).where(panels.c.story == story)).scalar()
    return 0 if last is None else int(last) + 1


def _previews(
    connection: sa.Connection, moved: Sequence[sa.RowMapping], cursor: StoryCursor
) -> tuple[StoryPreview, ...]:
    """The previews of ``moved`` jobs that are newer than the cursor."""
    of = {job["id"]: job["panel"] for job in moved}
    query = sa.select(previews).where(previews.c.job.in_(of)).order_by(previews.c.revision)
    rows = connection.execute(query).mappings().all() if of else []
    newer = (row for row in rows if row["revision"] > cursor.jobs.get(row["job"], 0))
    return tuple(StoryPreview(of[row["job"]], row["job"], row["step"], row["png"]) for row in newer)
