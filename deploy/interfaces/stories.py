"""What the service's other parts ask of the one that keeps stories."""

from __future__ import annotations

from typing import Any, Protocol

from components.history.generation import Generation, NewGeneration
from components.stories.answers import RequestKey
from components.stories.panel_plan import PanelDrawing
from components.stories.story import PagesLayout, Panel, PanelValues, Story, StoryCursor, StoryNews, StoryValues
from components.stories.takes import PendingTake


class Stories(Protocol):
    """Keeps stories, their panels and takes (see `components.stories`).

    Methods that take an id raise StoryNotFoundError, PanelNotFoundError or TakeNotFoundError, also where it is another
    owner's; those that take an expected revision raise RevisionError where it is outdated.
    """

    async def create(
        self, values: StoryValues, panels: list[PanelValues], owner: str = "", request: RequestKey | None = None
    ) -> tuple[Story, bool]:
        """Create a story; False where the same request has created it before."""
        ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Story]: ...

    async def get(self, identifier: str, owner: str = "") -> Story: ...

    async def change(
        self, identifier: str, values: StoryValues, owner: str = "", expected: int | None = None
    ) -> Story: ...

    async def delete(self, identifier: str, owner: str = "", expected: int | None = None) -> list[str]:
        """Returns the jobs that are drawing for it."""
        ...

    async def add_panels(
        self,
        story: str,
        values: list[PanelValues],
        after: str | None = None,
        owner: str = "",
        request: RequestKey | None = None,
    ) -> tuple[list[Panel], bool]:
        """Add panels behind the panel ``after``, at the ``"start"``, or by default at the end."""
        ...

    async def get_panel(self, story: str, panel: str, owner: str = "") -> Panel: ...

    async def change_panel(
        self,
        story: str,
        panel: str,
        values: PanelValues,
        owner: str = "",
        expected: int | None = None,
        chosen: str | None = None,
    ) -> Panel: ...

    async def delete_panel(self, story: str, panel: str, owner: str = "", expected: int | None = None) -> list[str]:
        """Returns the jobs that are drawing it."""
        ...

    async def duplicate(
        self, story: str, panel: str, owner: str = "", request: RequestKey | None = None
    ) -> tuple[Panel, bool]: ...

    async def order(self, story: str, panels: list[str], owner: str = "", expected: int | None = None) -> Story: ...

    async def plan(self, story: str, panels: list[str] | None, n: int, owner: str = "") -> list[PanelDrawing]:
        """What panels would be drawn as; by default all that are dirty and shown."""
        ...

    async def begin(self, story: str, pending: list[PendingTake], owner: str = "") -> None:
        """Name the jobs that are about to be submitted: what they draw becomes takes."""
        ...

    async def abandon(self, keys: list[str], owner: str = "") -> None:
        """Jobs that were named were refused."""
        ...

    async def note(self, story: str, errors: dict[str, dict[str, Any]], owner: str = "") -> None:
        """Say at panels why they are not drawn."""
        ...

    async def jobs_of(self, story: str, panel: str, owner: str = "") -> list[str]: ...

    async def answered(self, request: RequestKey, owner: str = "") -> Any | None:
        """What the same request was answered with, if it was."""
        ...

    async def keep_answer(self, request: RequestKey, answer: Any, owner: str = "") -> None: ...

    async def watch(self, story: str, cursor: StoryCursor, wait_s: float, owner: str = "") -> StoryNews | None:
        """What is newer than ``cursor``; None if within ``wait_s`` seconds nothing is."""
        ...

    async def picture(self, story: str, take: str, owner: str = "") -> bytes: ...

    async def mask(self, story: str, take: str, index: int, owner: str = "") -> bytes: ...

    async def thumbnail(self, story: str, take: str, size: int, owner: str = "") -> bytes: ...

    async def export(self, story: str, kind: str, pages: PagesLayout | None = None, owner: str = "") -> bytes:
        """A story as a file: ``pdf``, ``cbz``, ``zip`` or ``story``; raises NothingToExportError without pictures."""
        ...

    async def import_story(
        self, data: bytes, owner: str = "", served: tuple[str, str] | None = None, request: RequestKey | None = None
    ) -> tuple[Story, list[str], bool]:
        """Open what `export` has written; what could not be brought is said. Raises DataError for anything else."""
        ...

    async def refuse_more(self, owner: str = "") -> None:
        """Raise StoryLimitError where the owner's pictures take as much room as they may."""
        ...

    async def keep(self, drawn: list[NewGeneration], owner: str = "") -> list[str]:
        """Keep pictures in the history; their ids."""
        ...

    async def history(
        self, limit: int, after: str | None, owner: str = "", character: str | None = None, story: str | None = None
    ) -> list[Generation]: ...

    async def kept_picture(self, identifier: str, owner: str = "") -> bytes: ...

    async def kept_thumbnail(self, identifier: str, size: int, owner: str = "") -> bytes: ...

    async def delete_kept(self, identifier: str, owner: str = "") -> None: ...

    async def delete_take(self, story: str, take: str, owner: str = "") -> None: ...
