"""What a story is: panels in order, the takes drawn for each, and the errors of what is not there or has changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from components.errors import NotFoundError, RealCustomError

Paper = Literal["a4", "letter", "square"]


class StoryNotFoundError(NotFoundError):
    """There is no such story, or it is another owner's."""


class PanelNotFoundError(NotFoundError):
    """The story has no such panel."""


class TakeNotFoundError(NotFoundError):
    """The story has no such take."""


class OrderMismatchError(RealCustomError):
    """A new order does not name each panel of the story once."""


class StoryLimitError(RealCustomError):
    """The owner has as many stories, panels or bytes of pictures as the configuration allows."""


class RevisionError(RealCustomError):
    """A story or a panel has changed since it was read; ``revision`` is the present one of the story."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message, revision)
        self.message, self.revision = message, revision

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class PagesLayout:
    """How an export lays panels out on pages."""

    panels_per_page: int = 4
    title_page: bool = True
    paper: Paper = "a4"


@dataclass(frozen=True)
class Balloon:
    """A speech balloon: its centre and the end of its tail, as shares of the picture's width and height."""

    text: str
    x: float
    y: float
    tail_x: float
    tail_y: float


@dataclass(frozen=True)
class PanelCharacter:
    """How strongly a mentioned character acts in a panel."""

    id: str
    strength: float = 1.0
    face_strength: float = 1.0
    body_strength: float = 1.0


class PanelValues(TypedDict, total=False):
    """What people edit of a panel. The prompt mentions characters by name."""

    prompt: str
    caption: str
    characters: list[PanelCharacter]
    size: str
    seed: int | None
    seed_locked: bool
    hidden: bool
    balloons: list[Balloon]
    with_characters: bool


class StoryValues(TypedDict, total=False):
    """What people edit of a story."""

    title: str
    style: str
    language: str
    pages: PagesLayout


@dataclass(frozen=True)
class PromptMention:
    """A mention in a rendered prompt, in its characters ``start:end``; without ``character`` the name is unknown."""

    name: str
    character: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Take:
    """A picture that was drawn for a panel, and everything it was drawn with. Ids sort by age."""

    id: str
    panel: str
    created: float
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    #: ``prompt``, ``revised_prompt``, ``characters``, ``size``, ``negative_prompt``, ``steps``, ``guidance_scale`` and
    #: ``scheduler``.
    settings: dict[str, Any]
    #: Of the settings that a panel compares its own with.
    digest: str
    #: Influence masks, one a character.
    masks: int


@dataclass(frozen=True)
class PanelJob:
    """The job that is drawing a panel, or the next one that will.

    Args:
        step: of ``total`` steps.
        left: jobs of the panel that have not ended, this one included.
    """

    id: str
    state: str
    revision: int
    step: int
    total: int
    left: int


@dataclass(frozen=True)
class Panel:
    """One panel as its owner sees it, its mentions written with the characters' present names."""

    id: str
    #: Grows with every edit; neither a job nor a take changes it.
    revision: int
    #: The story's `Story.changes` when anything of the panel changed last.
    changed: int
    prompt: str
    mentions: tuple[PromptMention, ...]
    caption: str
    characters: tuple[PanelCharacter, ...]
    size: str
    seed: int | None
    seed_locked: bool
    hidden: bool
    balloons: tuple[Balloon, ...]
    with_characters: bool
    chosen: str | None
    #: Newest first.
    takes: tuple[Take, ...]
    job: PanelJob | None
    #: What would be drawn now differs from the chosen take, or nothing is chosen.
    dirty: bool
    #: Why nothing was drawn last time: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None

    @property
    def chosen_take(self) -> Take | None:
        return next((take for take in self.takes if take.id == self.chosen), None)


@dataclass(frozen=True)
class Story:
    """One story; ``panels`` are in order, and left out of lists. Ids sort by age."""

    id: str
    owner: str
    created: float
    updated: float
    #: Grows with every edit of the story's own values and of which panels it has in which order.
    revision: int
    #: Grows with every change of anything in the story.
    changes: int
    title: str
    style: str
    language: str
    pages: PagesLayout
    panel_count: int
    #: The take that stands for the story in a list.
    cover: str | None
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class StoryPreview:
    """What a panel's picture looks like in the making, as a small PNG."""

    panel: str
    job: str
    step: int
    png: bytes


@dataclass(frozen=True)
class StoryCursor:
    """What somebody who watches a story has seen: its changes, and the revisions of jobs that run."""

    changes: int = 0
    jobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StoryNews:
    """What has changed since a cursor: the story itself (without panels) and its order, panels, previews."""

    cursor: StoryCursor
    story: Story | None
    order: tuple[str, ...]
    panels: tuple[Panel, ...]
    previews: tuple[StoryPreview, ...]
