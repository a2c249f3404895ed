"""The types of stories, panels and takes, and their errors."""

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
    """The configured limit of an owner's stories, panels or image bytes is reached."""


class RevisionError(RealCustomError):
    """A story or a panel has changed since it was read; ``revision`` is the story's current one."""

    def __init__(self, message: str, revision: int) -> None:
        super().__init__(message, revision)
        self.message, self.revision = message, revision

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class PagesLayout:
    """Page layout of an export."""

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
    """The strengths of a mentioned character in a panel."""

    id: str
    strength: float = 1.0
    face_strength: float = 1.0
    body_strength: float = 1.0


@dataclass(frozen=True)
class PanelLora:
    """A LoRA of a panel, by the name that the service gives it."""

    name: str
    weight: float = 1.0


#: Fields of a panel that say how it is sampled; ``loras`` is stored as JSON.
SAMPLING = ("sampler", "steps", "guidance_scale")


@dataclass(frozen=True)
class PanelSampling:
    """How a panel is sampled; None is the service's default."""

    sampler: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    loras: tuple[PanelLora, ...] = ()


#: The service's defaults.
DEFAULT_SAMPLING = PanelSampling()


class PanelValues(TypedDict, total=False):
    """The editable values of a panel. The prompt mentions characters by name."""

    prompt: str
    caption: str
    characters: list[PanelCharacter]
    size: str
    seed: int | None
    seed_locked: bool
    hidden: bool
    balloons: list[Balloon]
    with_characters: bool
    sampler: str | None
    steps: int | None
    guidance_scale: float | None
    loras: list[PanelLora]


class StoryValues(TypedDict, total=False):
    """The editable values of a story."""

    title: str
    style: str
    language: str
    pages: PagesLayout


@dataclass(frozen=True)
class PromptMention:
    """A mention in a rendered prompt; ``start:end`` is its span, ``character`` None if the name is unknown."""

    name: str
    character: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Take:
    """An image generated for a panel, and the inputs of its generation. Ids sort by age."""

    id: str
    panel: str
    created: float
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    #: ``prompt``, ``revised_prompt``, ``characters``, ``size``, ``negative_prompt``, ``steps``, ``guidance_scale`` and
    #: ``scheduler``; with LoRAs also ``loras``, each with ``name`` and ``weight``; with a control ``control``, with its
    #: ``name``, ``scale``, ``start`` and ``end``; of a redrawn one also ``redraw``, with the ``take`` that it was made
    #: of and the ``strength``.
    settings: dict[str, Any]
    #: See `components.stories.panel_plan.generation_digest`.
    digest: str
    #: Number of influence masks, one per character.
    masks: int


@dataclass(frozen=True)
class PanelJob:
    """The running job of a panel, or else its next queued one.

    Args:
        step: of ``total`` steps.
        left: number of unfinished jobs of the panel, this one included.
    """

    id: str
    state: str
    revision: int
    step: int
    total: int
    left: int


@dataclass(frozen=True)
class Panel:
    """One panel; the mentions in its prompt have the characters' current names."""

    id: str
    #: Incremented by every edit, not by jobs and takes.
    revision: int
    #: The value of `Story.changes` at the panel's last change.
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
    #: The chosen take was generated with other values, or no take is chosen.
    dirty: bool
    #: Why the last generation failed: ``message``, ``param`` and ``code``.
    error: dict[str, Any] | None
    sampling: PanelSampling = DEFAULT_SAMPLING

    @property
    def chosen_take(self) -> Take | None:
        return next((take for take in self.takes if take.id == self.chosen), None)


@dataclass(frozen=True)
class Story:
    """One story; ``panels`` are in order, and empty in lists of stories. Ids sort by age."""

    id: str
    owner: str
    created: float
    updated: float
    #: Incremented by edits of the story's own values, and by adding, deleting and reordering panels.
    revision: int
    #: Incremented by every change of the story, its panels and takes.
    changes: int
    title: str
    style: str
    language: str
    pages: PagesLayout
    panel_count: int
    #: The id of the take that is the cover in lists.
    cover: str | None
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True)
class StoryPreview:
    """Preview of a panel's unfinished image, as a small PNG."""

    panel: str
    job: str
    step: int
    png: bytes


@dataclass(frozen=True)
class StoryCursor:
    """Position in the changes of a story: ``changes`` seen, and the revisions of its active jobs."""

    changes: int = 0
    jobs: dict[str, int] = field(default_factory=dict)

    def is_behind(self, current: StoryCursor | None) -> bool:
        """Whether something has changed since; ``current`` is None if the story does not exist."""
        if current is None or current.changes > self.changes:
            return True
        return any(self.jobs.get(job) != revision for job, revision in current.jobs.items())


@dataclass(frozen=True)
class StoryNews:
    """The changes since a cursor: the story (without panels) and its order, changed panels, previews."""

    cursor: StoryCursor
    story: Story | None
    order: tuple[str, ...]
    panels: tuple[Panel, ...]
    previews: tuple[StoryPreview, ...]
