"""The protocol of the stories service."""

from __future__ import annotations

from typing import Any, Protocol

from components.access.limits import RequestId
from components.history.generation import Generation, NewGeneration
from components.stories.panel_plan import PanelPlan
from components.stories.story import PagesLayout, Panel, PanelValues, Story, StoryCursor, StoryNews, StoryValues
from components.stories.takes import PendingTake


class Stories(Protocol):
    """Stores stories, panels and takes (see `components.stories`) and the history (see `components.history`).

    Methods that take an id raise StoryNotFoundError, PanelNotFoundError or TakeNotFoundError, also if it belongs to
    another owner; those that take an expected revision raise RevisionError if it is outdated.
    """

    async def create(
        self, values: StoryValues, panels: list[PanelValues], owner: str = "", request: RequestId | None = None
    ) -> tuple[Story, bool]:
        """Create a story; False if the same request has created it before."""
        ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Story]: ...

    async def get(self, identifier: str, owner: str = "") -> Story: ...

    async def change(
        self, identifier: str, values: StoryValues, owner: str = "", expected: int | None = None
    ) -> Story: ...

    async def delete(self, identifier: str, owner: str = "", expected: int | None = None) -> list[str]:
        """Delete a story; returns the ids of its unfinished jobs."""
        ...

    async def add_panels(
        self,
        story: str,
        values: list[PanelValues],
        after: str | None = None,
        owner: str = "",
        request: RequestId | None = None,
    ) -> tuple[list[Panel], bool]:
        """Insert panels after the panel ``after``, at the ``"start"``, or by default at the end."""
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
        """Delete a panel; returns the ids of its unfinished jobs."""
        ...

    async def duplicate(
        self, story: str, panel: str, owner: str = "", request: RequestId | None = None
    ) -> tuple[Panel, bool]: ...

    async def order(self, story: str, panels: list[str], owner: str = "", expected: int | None = None) -> Story: ...

    async def plan(self, story: str, panels: list[str] | None, n: int, owner: str = "") -> list[PanelPlan]:
        """Plan ``n`` images of each panel; by default of all that are dirty and not hidden."""
        ...

    async def register_jobs(self, story: str, pending: list[PendingTake], owner: str = "") -> None:
        """Register jobs before their submission, so that their images become takes."""
        ...

    async def unregister_jobs(self, keys: list[str], owner: str = "") -> None:
        """Remove the registration of jobs whose submission failed."""
        ...

    async def record_errors(self, story: str, errors: dict[str, dict[str, Any]], owner: str = "") -> None:
        """Store the errors of panels for which no job was submitted."""
        ...

    async def jobs_of(self, story: str, panel: str, owner: str = "") -> list[str]:
        """The ids of a panel's unfinished jobs."""
        ...

    async def find_response(self, request: RequestId, owner: str = "") -> Any | None:
        """The stored response to a request; raises KeyReusedError if the key was used for another request."""
        ...

    async def store_response(self, request: RequestId, answer: Any, owner: str = "") -> None: ...

    async def watch(self, story: str, cursor: StoryCursor, wait_s: float, owner: str = "") -> StoryNews | None:
        """The changes since ``cursor``; waits up to ``wait_s`` seconds for one, then returns None."""
        ...

    async def check_take(self, story: str, take: str, owner: str = "") -> None:
        """Raise TakeNotFoundError if the story has no such take; its files are not read."""
        ...

    async def picture(self, story: str, take: str, owner: str = "") -> bytes: ...

    async def mask(self, story: str, take: str, index: int, owner: str = "") -> bytes: ...

    async def thumbnail(self, story: str, take: str, size: int, owner: str = "") -> bytes: ...

    async def export(self, story: str, kind: str, pages: PagesLayout | None = None, owner: str = "") -> bytes:
        """A story as a file: ``pdf``, ``cbz``, ``zip`` or ``story``; raises NothingToExportError without images."""
        ...

    async def import_story(
        self, data: bytes, owner: str = "", served: tuple[str, str] | None = None, request: RequestId | None = None
    ) -> tuple[Story, list[str], bool]:
        """Import a file of `export`; returns the story, and notes on what could not be imported. Raises DataError."""
        ...

    async def check_quota(self, owner: str = "") -> None:
        """Raise StoryLimitError if the owner's images use all of their quota."""
        ...

    async def save_generations(self, images: list[NewGeneration], owner: str = "") -> list[str]:
        """Save images in the history; returns their ids."""
        ...

    async def history(
        self, limit: int, after: str | None, owner: str = "", character: str | None = None, story: str | None = None
    ) -> list[Generation]: ...

    async def check_generation(self, identifier: str, owner: str = "") -> None:
        """Raise GenerationNotFoundError if there is no such image; its files are not read."""
        ...

    async def generation_picture(self, identifier: str, owner: str = "") -> bytes: ...

    async def generation_thumbnail(self, identifier: str, size: int, owner: str = "") -> bytes: ...

    async def delete_generation(self, identifier: str, owner: str = "") -> None: ...

    async def delete_take(self, story: str, take: str, owner: str = "") -> None: ...
