"""What the service's parts say to each other. A part is whatever has these methods: a deployment, or a plain object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import TypeAdapter

from components.characters.candidates import Candidate, Candidates
from components.characters.character import Character, Portraits, SubjectTokens
from components.data.schema import Box
from components.errors import RealCustomError
from components.jobs.job import Job, JobProgress, NewJob, News, Preview
from components.provenance.pictures import Output


class OrderError(RealCustomError):
    """The generator cannot draw an order as it stands; ``param`` is the field at fault."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param)
        self.message, self.param = message, param

    def __str__(self) -> str:
        return self.message


class UnavailableError(RealCustomError):
    """The service cannot take the request now; the same one may succeed later, in ``retry_after_s`` if it is known."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(UnavailableError):
    """Too many others wait; nothing was begun."""


class ExcessError(BusyError):
    """Too many of the caller's own requests wait; nothing was begun."""


@dataclass(frozen=True)
class UploadedSubject:
    """A subject that is kept nowhere: its cut-outs as PNG, and the face in each, x0, y0, x1, y1 in pixels, or none."""

    cut_outs: tuple[bytes, ...]
    faces: tuple[tuple[float, float, float, float] | None, ...]


@dataclass(frozen=True)
class CharacterUse:
    """A character in an order: its id, its word in the prompt, and how strongly it acts (1 is normal, 0 not at all).

    A subject that is ``shown`` has no id, and without a word it is given one by its looks. ``revision`` is that of the
    character's pictures as it was just read; none where that is some time ago.
    """

    character: str
    word: str
    strength: float = 1.0
    face_strength: float = 1.0
    body_strength: float = 1.0
    shown: UploadedSubject | None = None
    revision: int | None = None


@dataclass(frozen=True)
class Order:
    """One request for pictures, one a seed. Everything is decided; no defaults are left."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seeds: tuple[int, ...]
    subjects: tuple[CharacterUse, ...]
    #: Share of the picture a subject may act on; none is the model's default.
    mask_scope: float | None
    #: Whom it is for: owners share a generator evenly.
    owner: str = ""
    #: Seconds after which nobody wants it any more; none is the generator's own limit.
    timeout_s: float | None = None
    #: A name in `components.model.schedulers`; none is the model's own.
    scheduler: str | None = None
    output: Output = field(default_factory=Output)
    #: What was asked for and is known to have no effect.
    notes: tuple[str, ...] = ()

    def for_later(self) -> Order:
        """The same, for when its characters may have changed."""
        return replace(self, subjects=tuple(replace(subject, revision=None) for subject in self.subjects))


@dataclass(frozen=True)
class Drawing:
    """A picture as its order wants it, its acting subjects' influence masks as PNG, and how many seconds it took."""

    picture: bytes
    masks: tuple[bytes, ...]
    seconds: float


@dataclass(frozen=True)
class Delivery:
    """An order's drawings in the order of its seeds, where the time went, in seconds, and what had no effect.

    Args:
        prompt: what was drawn, which differs from the order's where a subject's word had to be put in.
        words: that stand for the subjects in it.
        model_version: who drew it.
    """

    drawings: list[Drawing]
    timings: dict[str, float]
    notes: list[str] = field(default_factory=list)
    prompt: str = ""
    words: tuple[str, ...] = ()
    model_version: str = ""


@dataclass(frozen=True)
class JobOrder:
    """What a job draws, and how its answer is written: with masks or without, so many previews of each picture."""

    order: Order
    return_masks: bool
    previews: int
    model: str

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        return dict(TypeAdapter(JobOrder).dump_python(self, mode="json"))

    @staticmethod
    def unpack(payload: dict[str, Any]) -> JobOrder:
        """What `pack` has packed."""
        return TypeAdapter(JobOrder).validate_python(payload)


class Characters(Protocol):
    """Keeps characters. Methods that take an id raise NotFoundError, also where it is another owner's."""

    async def create(
        self,
        name: str,
        description: str,
        target_word: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
    ) -> Character: ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]: ...

    async def get(self, identifier: str, owner: str = "") -> Character: ...

    async def find(self, name: str, owner: str = "") -> list[Character]:
        """The owner's characters of that name, in any case."""
        ...

    async def show(self, pictures: list[bytes], field: str) -> UploadedSubject:
        """Cut the subject out of pictures, and keep nothing; raises DataError for those that cannot be read."""
        ...

    async def describe(
        self, identifier: str, name: str | None, description: str | None, target_word: str | None, owner: str = ""
    ) -> Character:
        """Change what is not None."""
        ...

    async def add_pictures(
        self, identifier: str, pictures: list[bytes], faces: list[Box | None], owner: str = ""
    ) -> Character: ...

    async def remove_picture(self, identifier: str, picture: str, owner: str = "") -> Character: ...

    async def cut_out(self, identifier: str, picture: str | None, owner: str = "") -> bytes:
        """A picture as the model sees it, by default the first one, as PNG."""
        ...

    async def thumbnail(self, identifier: str, size: int, owner: str = "") -> tuple[str, bytes]:
        """The first picture as the model sees it, as a WebP of at most ``size`` pixels, and the id of the picture."""
        ...

    async def offer(self, prompt: str, pictures: list[bytes], owner: str = "") -> Candidates:
        """Keep pictures that were drawn of a prompt for an hour, for somebody to choose from."""
        ...

    async def candidate(self, identifier: str, choice: int, owner: str = "") -> Candidate: ...

    async def delete(self, identifier: str, owner: str = "") -> None: ...


class SubjectSource(Protocol):
    """Keeps characters' cut-outs and vision tokens (see `components.characters.store`)."""

    async def portraits(self, identifier: str, size: int) -> Portraits: ...

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None: ...

    async def put_tokens(self, identifier: str, identity: str, revision: int, subject: SubjectTokens) -> bool: ...


class Generator(Protocol):
    """Draws pictures.

    Raises WordError if the prompt does not hold the subject's word, UnavailableError if too many requests wait or this
    one waited too long. To cancel the call is to cancel the drawing.
    """

    async def generate(self, order: Order) -> Delivery: ...

    def draw(self, order: Order, previews: int) -> AsyncGenerator[JobProgress | Preview | Delivery, None]:
        """Tell how far the pictures are and what they look like, so many times each, and in the end deliver."""
        ...


class Jobs(Protocol):
    """Keeps jobs and sees that they are drawn (see `components.jobs.store`).

    Methods that take an id raise JobNotFoundError, also where it is another owner's.
    """

    async def submit(self, new: NewJob) -> tuple[Job, bool]: ...

    async def known(self, new: NewJob) -> Job | None: ...

    async def get(self, identifier: str, owner: str = "") -> Job: ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Job]: ...

    async def result(self, identifier: str, owner: str = "") -> bytes | None: ...

    async def watch(self, identifier: str, revision: int, wait_s: float, owner: str = "") -> News | None:
        """What is newer than ``revision``; None if within ``wait_s`` seconds nothing is."""
        ...

    async def cancel(self, identifier: str, owner: str = "") -> Job | None: ...
