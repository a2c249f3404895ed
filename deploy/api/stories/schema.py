"""The JSON of stories, panels and takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from components.jobs.job import State
from components.model.schedulers import NAMES
from components.stories.script import split_script
from components.stories.story import (
    SAMPLING,
    Balloon,
    PagesLayout,
    Panel,
    PanelCharacter,
    PanelLora,
    PanelValues,
    PromptMention,
    Story,
    StoryValues,
    Take,
)
from deploy.api.images.control_request import OneControl
from deploy.api.images.lora_choices import LoraChoice, Loras
from deploy.api.schema import StrictRequest, decode_base64

MAX_PANELS_A_REQUEST = 500
MAX_VARIATIONS = 4

Title = Annotated[str, Field(min_length=1, max_length=200)]
Style = Annotated[str, Field(max_length=500)]
#: Of the script, as a tag of BCP 47.
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$", max_length=35)]
Prompt = Annotated[str, Field(max_length=3000)]
Share = Annotated[float, Field(ge=0, le=1)]


class PagesRequest(StrictRequest):
    """Page layout of an export."""

    panels_per_page: int = Field(4, ge=1, le=6)
    title_page: bool = True
    paper: Literal["a4", "letter", "square"] = "a4"


class StoryRequest(StrictRequest):
    """``POST /v1/stories``."""

    title: Title
    #: Appended to the prompt of every panel.
    style: Style = ""
    language: Language = "en"
    pages: PagesRequest = PagesRequest()
    #: One panel per line; leading bullets and numbers are dropped.
    script: str = Field("", max_length=500_000)

    def values(self) -> StoryValues:
        pages = PagesLayout(**self.pages.model_dump())
        return {"title": self.title, "style": self.style, "language": self.language, "pages": pages}

    def panels(self) -> list[PanelValues]:
        return [{"prompt": line} for line in split_script(self.script)]

    @model_validator(mode="after")
    def _lines_fit(self) -> StoryRequest:
        for number, line in enumerate(split_script(self.script), start=1):
            if len(line) > 3000:
                raise ValueError(f"script: panel {number} has more than 3,000 characters: split its line")
        return self


class StoryChange(StrictRequest):
    """``PATCH /v1/stories/<id>``: only the given fields change."""

    title: Title | None = None
    style: Style | None = None
    language: Language | None = None
    pages: PagesRequest | None = None

    def values(self) -> StoryValues:
        given: dict[str, Any] = {name: getattr(self, name) for name in ("title", "style", "language")}
        given["pages"] = None if self.pages is None else PagesLayout(**self.pages.model_dump())
        return StoryValues(**{name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]


class BalloonField(StrictRequest):
    """A speech balloon: its centre and the end of its tail, as shares of the picture's width and height."""

    text: str = Field(max_length=500)
    x: Share
    y: Share
    tail_x: Share
    tail_y: Share


class PanelCharacterField(StrictRequest):
    """The strengths of a mentioned character."""

    id: str = Field(max_length=48)
    strength: float = Field(1, ge=0, le=2)
    face_strength: float = Field(1, ge=0, le=2)
    body_strength: float = Field(1, ge=0, le=2)


class PanelFields(StrictRequest):
    """The editable fields of a panel; the prompt mentions characters as ``@name`` or ``@"two words"``."""

    prompt: Prompt = ""
    caption: str = Field("", max_length=1000)
    characters: list[PanelCharacterField] = Field([], max_length=20)
    size: str = Field("auto", pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")
    seed: int | None = Field(None, ge=0, lt=2**32)
    seed_locked: bool = False
    hidden: bool = False
    balloons: list[BalloonField] = Field([], max_length=20)
    with_characters: bool = True
    #: As in requests for images; by default the service's.
    sampler: Literal[NAMES] | None = None  # type: ignore[valid-type]
    steps: int | None = Field(None, ge=1, le=1000)
    guidance_scale: float | None = Field(None, ge=1, le=30)
    loras: Loras = []

    def values(self) -> PanelValues:
        """The fields that the client has sent."""
        given: dict[str, Any] = {
            name: getattr(self, name) for name in self.model_fields_set & PanelFields.model_fields.keys()
        }
        if "characters" in given:
            given["characters"] = [PanelCharacter(**each.model_dump()) for each in self.characters]
        if "loras" in given:
            given["loras"] = [PanelLora(**each.model_dump()) for each in self.loras]
        if "balloons" in given:
            given["balloons"] = [Balloon(**each.model_dump()) for each in self.balloons]
        return PanelValues(**given)  # type: ignore[typeddict-item]


class PanelChange(PanelFields):
    """``PATCH /v1/stories/<id>/panels/<panel>``: only the given fields change."""

    #: The take that is shown.
    chosen: str | None = Field(None, max_length=48)


class PanelsRequest(StrictRequest):
    """``POST /v1/stories/<id>/panels``."""

    panels: list[PanelFields] = Field(min_length=1, max_length=MAX_PANELS_A_REQUEST, fail_fast=True)
    #: Insert after the panel of this id, or at the ``start``; by default at the end.
    after: str | None = Field(None, max_length=48)


class OrderRequest(StrictRequest):
    """``PUT /v1/stories/<id>/order``: all panels, each once."""

    panels: list[Annotated[str, Field(max_length=48)]] = Field(max_length=10_000, fail_fast=True)


def _distinct(panels: list[str] | None) -> list[str] | None:
    return None if panels is None else list(dict.fromkeys(panels))


class DrawRequest(StrictRequest):
    """``POST /v1/stories/<id>/draw``."""

    #: By default all that are dirty and not hidden.
    panels: (
        Annotated[list[str], Field(max_length=MAX_PANELS_A_REQUEST, fail_fast=True), AfterValidator(_distinct)] | None
    ) = None
    #: Variations of each panel.
    n: int = Field(1, ge=1, le=MAX_VARIATIONS)
    #: As in requests for images, of one panel in ``panels``. It is not stored with the panel.
    control: OneControl = None


class RedrawRequest(StrictRequest):
    """``POST /v1/stories/<id>/takes/<take>/redraw``."""

    #: A PNG of the take's size in base64: it is redrawn where this is transparent; by default all of it is.
    mask: Annotated[bytes | None, BeforeValidator(decode_base64)] = None
    #: Share of the steps that are made.
    strength: float = Field(0.8, gt=0, le=1)
    #: What the redrawn part shows, with the characters' words in place of mentions; by default the take's own prompt.
    prompt: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    #: Variations.
    n: int = Field(1, ge=1, le=MAX_VARIATIONS)
    #: By default random ones; those of further variations count up.
    seed: int | None = Field(None, ge=0, lt=2**32)


class TakeRedraw(BaseModel):
    #: The take that was redrawn, and with which strength.
    take: str
    strength: float


class TakeControl(BaseModel):
    name: str
    scale: float
    start: float
    end: float


class TakeCharacter(BaseModel):
    id: str
    name: str
    target_word: str
    strength: float
    face_strength: float
    body_strength: float


class TakeSettings(BaseModel):
    #: With mentions, and with the story's style.
    prompt: str
    #: The prompt of the model, with target words in place of mentions.
    revised_prompt: str
    characters: list[TakeCharacter]
    size: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    scheduler: str | None
    loras: list[LoraChoice] = []
    #: Of a take whose composition a picture has guided; the picture is not kept.
    control: TakeControl | None = None
    #: Of a take that was redrawn from another one.
    redraw: TakeRedraw | None = None


class TakeResponse(BaseModel):
    id: str
    object: Literal["take"] = "take"
    created: int
    #: Paths.
    picture: str
    thumbnail: str
    masks: list[str]
    width: int
    height: int
    seed: int
    model: str
    model_version: str
    settings: TakeSettings

    @classmethod
    def of(cls, take: Take, story: str) -> TakeResponse:
        path = f"/v1/stories/{story}/takes/{take.id}"
        return cls(
            id=take.id,
            created=int(take.created),
            picture=f"{path}.png",
            thumbnail=f"{path}/thumbnail.webp?size=256",
            masks=[f"{path}/masks/{index}.png" for index in range(take.masks)],
            width=take.width,
            height=take.height,
            seed=take.seed,
            model=take.model,
            model_version=take.model_version,
            settings=TakeSettings(**take.settings),
        )


class PanelJobResponse(BaseModel):
    id: str
    status: State
    step: int
    total: int
    #: Unfinished jobs of the panel, this one included.
    left: int


class PanelError(BaseModel):
    message: str
    param: str | None = None
    code: str | None = None


class MentionResponse(BaseModel):
    """A mention; ``start:end`` is its span in the prompt, ``character`` null if the name is unknown."""

    name: str
    character: str | None
    start: int
    end: int

    @classmethod
    def of(cls, mention: PromptMention) -> MentionResponse:
        return cls(**vars(mention))


class PanelResponse(BaseModel):
    id: str
    object: Literal["panel"] = "panel"
    #: Incremented by every edit, not by jobs and takes.
    revision: int
    prompt: str
    mentions: list[MentionResponse]
    caption: str
    characters: list[PanelCharacterField]
    size: str
    seed: int | None
    seed_locked: bool
    hidden: bool
    balloons: list[BalloonField]
    with_characters: bool
    sampler: str | None
    steps: int | None
    guidance_scale: float | None
    loras: list[LoraChoice]
    #: The take that is shown.
    chosen: str | None
    #: Newest first.
    takes: list[TakeResponse]
    job: PanelJobResponse | None
    #: The chosen take was generated with other values, or no take is chosen.
    dirty: bool
    #: Why the last generation failed.
    error: PanelError | None
    etag: str
    #: Number of the panel's last change among the story's events: of two responses the one with the higher is newer.
    event: int

    @classmethod
    def of(cls, panel: Panel, story: str) -> PanelResponse:
        same = ("id", "revision", "prompt", "caption", "size", "seed", "seed_locked", "hidden", "with_characters")
        job = panel.job
        return cls(
            **{name: getattr(panel, name) for name in (*same, "chosen", "dirty")},
            **{name: getattr(panel.sampling, name) for name in SAMPLING},
            loras=[LoraChoice(**vars(lora)) for lora in panel.sampling.loras],
            mentions=[MentionResponse.of(mention) for mention in panel.mentions],
            characters=[PanelCharacterField(**vars(character)) for character in panel.characters],
            balloons=[BalloonField(**vars(balloon)) for balloon in panel.balloons],
            takes=[TakeResponse.of(take, story) for take in panel.takes],
            job=job
            and PanelJobResponse(id=job.id, status=State(job.state), step=job.step, total=job.total, left=job.left),
            error=None if panel.error is None else PanelError(**panel.error),
            etag=etag(panel.revision),
            event=panel.changed,
        )


class PagesResponse(BaseModel):
    panels_per_page: int
    title_page: bool
    paper: Literal["a4", "letter", "square"]


class StorySummary(BaseModel):
    """A story without its panels."""

    id: str
    object: Literal["story"] = "story"
    created: int
    updated: int
    #: Incremented by edits of the story's own values, and by adding, deleting and reordering panels.
    revision: int
    title: str
    style: str
    language: str
    panel_count: int
    #: Path of a thumbnail.
    cover: str | None
    pages: PagesResponse
    etag: str
    #: The newest event of the story, for ``Last-Event-ID``.
    event: int

    @classmethod
    def fields(cls, story: Story) -> dict[str, Any]:
        same = ("id", "revision", "title", "style", "language", "panel_count")
        cover = story.cover and f"/v1/stories/{story.id}/takes/{story.cover}/thumbnail.webp?size=256"
        return {name: getattr(story, name) for name in same} | {
            "created": int(story.created),
            "updated": int(story.updated),
            "cover": cover,
            "pages": PagesResponse(**vars(story.pages)),
            "etag": etag(story.revision),
            "event": story.changes,
        }

    @classmethod
    def of(cls, story: Story) -> StorySummary:
        return cls(**cls.fields(story))


class StoryResponse(StorySummary):
    #: In order.
    panels: list[PanelResponse]

    @classmethod
    def of(cls, story: Story) -> StoryResponse:
        return cls(**cls.fields(story), panels=[PanelResponse.of(panel, story.id) for panel in story.panels])


class ImportedStory(StoryResponse):
    #: What could not be imported.
    notes: list[str]


class StoryPage(BaseModel):
    """Newest first. Pass the last id as ``after`` for the next page."""

    object: Literal["list"] = "list"
    data: list[StorySummary]
    has_more: bool


class PanelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[PanelResponse]


class DrawnPanel(BaseModel):
    panel: str
    job: str


class SkippedPanel(BaseModel):
    panel: str
    reason: str


class DrawResponse(BaseModel):
    """The submitted jobs, one per panel and variation, and the skipped panels."""

    object: Literal["list"] = "list"
    data: list[DrawnPanel]
    skipped: list[SkippedPanel]


class DeletedStoryResponse(BaseModel):
    id: str
    object: Literal["story.deleted", "panel.deleted", "take.deleted"]
    deleted: Literal[True] = True


class StoryEvent(StorySummary):
    """The event ``story``."""

    order: list[str]


class StoryPreviewEvent(BaseModel):
    """The event ``preview``: a panel's unfinished image, as a small PNG."""

    panel: str
    job: str
    step: int
    b64_json: str


def etag(revision: int) -> str:
    """The ETag of a story's or a panel's revision."""
    return f'"r{revision}"'
