"""Protocols of the service's parts. In production a Ray Serve deployment implements each, in tests a plain object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from PIL import Image

from components.characters.candidates import Candidate, Candidates
from components.characters.cast import Cast
from components.characters.character import Character, CharacterCutOuts, SubjectTokens
from components.data.schema import Box
from components.jobs.job import Job, JobUpdate, NewJob
from components.model.naming import Naming
from deploy.interfaces.requests import GenerationRequest, StatedRegion, UploadedPicture, UploadedSubject
from deploy.interfaces.results import GenerationEvent, GenerationResult


class Characters(Protocol):
    """Stores characters. Methods that take an id raise NotFoundError, also for a character of another owner."""

    async def create(
        self,
        name: str,
        description: str,
        target_word: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
        regions: Sequence[StatedRegion] = (),
    ) -> Character:
        """Store a character of the subject that the images show, where ``regions`` or the images say that it is."""
        ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Character]: ...

    async def get(self, identifier: str, owner: str = "") -> Character: ...

    async def cast(self, owner: str = "") -> Cast:
        """All characters of the owner, to be mentioned by name."""
        ...

    async def cut_out_uploads(
        self, pictures: list[bytes], field: str, owner: str = "", regions: Sequence[StatedRegion] = ()
    ) -> UploadedSubject:
        """Cut the subject out of images without storing them; DataError for an image that cannot be read."""
        ...

    async def picture_size(self, picture: bytes, field: str, owner: str = "") -> tuple[int, int]:
        """The sides that the header of an uploaded image states, whose pixels are not decoded; DataError."""
        ...

    async def read_picture(
        self, picture: bytes, field: str, owner: str = "", size: tuple[int, int] | None = None
    ) -> UploadedPicture:
        """An uploaded image, resized to ``size``, which is not stored; DataError if it cannot be read."""
        ...

    async def read_redraw_mask(self, mask: bytes, size: tuple[int, int], field: str, owner: str = "") -> bytes:
        """The mask of an image of ``size`` as a PNG, white where the uploaded one is transparent; StatedRegionError."""
        ...

    async def update(
        self, identifier: str, name: str | None, description: str | None, target_word: str | None, owner: str = ""
    ) -> Character:
        """Change the fields that are not None."""
        ...

    async def add_pictures(
        self,
        identifier: str,
        pictures: list[bytes],
        faces: list[Box | None],
        owner: str = "",
        regions: Sequence[StatedRegion] = (),
    ) -> Character: ...

    async def remove_picture(self, identifier: str, picture: str, owner: str = "") -> Character: ...

    async def change_region(self, identifier: str, picture: str, region: StatedRegion, owner: str = "") -> Character:
        """Cut a picture out again, where ``region`` says that its subject is; the picture gets another id."""
        ...

    async def original(self, identifier: str, picture: str, owner: str = "") -> bytes:
        """A picture as it is stored, as PNG."""
        ...

    async def mask(self, identifier: str, picture: str, owner: str = "") -> bytes:
        """The mask of a picture's subject: a PNG of the picture's size, white on the subject."""
        ...

    async def cut_out(self, identifier: str, picture: str | None, owner: str = "") -> bytes:
        """The PNG cut-out that the model sees of one picture, by default of the first."""
        ...

    async def thumbnail(self, identifier: str, picture: str, size: int, owner: str = "") -> bytes:
        """A picture's cut-out as a WebP of at most ``size`` pixels."""
        ...

    async def save_candidates(self, prompt: str, pictures: list[bytes], owner: str = "") -> Candidates:
        """Store images generated from a prompt for an hour; the client makes one of them a character."""
        ...

    async def get_candidate(self, identifier: str, choice: int, owner: str = "") -> Candidate: ...

    async def delete(self, identifier: str, owner: str = "") -> None: ...


class SubjectSource(Protocol):
    """Stores characters' cut-outs and vision tokens (see `components.characters.store`)."""

    async def cut_outs(self, identifier: str, size: int) -> CharacterCutOuts: ...

    async def tokens(self, identifier: str, identity: str) -> SubjectTokens | None: ...

    async def put_tokens(self, identifier: str, identity: str, revision: int, subject: SubjectTokens) -> bool: ...


class Namer(Protocol):
    """Finds the word of a prompt that stands for the subject of images (`components.model.naming.WordNamer`)."""

    def name(self, prompt: str, pictures: Sequence[Image.Image]) -> Naming: ...


class Generator(Protocol):
    """Generates images.

    Raises WordError if the prompt does not contain a subject's word, UnavailableError if too many requests are queued
    or this one timed out. Cancelling the call cancels the generation.
    """

    async def generate(self, request: GenerationRequest) -> GenerationResult: ...

    async def encode_character(self, character: str, revision: int, owner: str = "") -> None:
        """Compute and store the vision tokens of a character's images at ``revision``, unless they are stored."""
        ...

    def stream(self, request: GenerationRequest, previews: int) -> AsyncGenerator[GenerationEvent, None]:
        """Yield progress and ``previews`` previews of each image, and finally the result."""
        ...


class Jobs(Protocol):
    """Stores jobs and executes them (see `components.jobs.store`).

    Methods that take an id raise JobNotFoundError, also for a job of another owner.
    """

    async def submit(self, new: NewJob) -> tuple[Job, bool]:
        """The job, and whether it is new: False for a repeated idempotency key."""
        ...

    async def find_existing(self, new: NewJob) -> Job | None:
        """The job that was submitted before with the idempotency key of ``new``."""
        ...

    async def get(self, identifier: str, owner: str = "") -> Job: ...

    async def page(self, limit: int, after: str | None, owner: str = "") -> list[Job]: ...

    async def result(self, identifier: str, owner: str = "") -> bytes | None: ...

    async def watch(self, identifier: str, revision: int, wait_s: float, owner: str = "") -> JobUpdate | None:
        """Wait for a revision newer than ``revision``; None if there is none within ``wait_s`` seconds."""
        ...

    async def cancel(self, identifier: str, owner: str = "") -> Job | None: ...
