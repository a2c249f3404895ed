"""The service and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.config.access import AccessConfig, ContentConfig
from components.config.section import Place, Section


class JobsConfig(Section):
    """Pictures that are drawn while nobody waits on the line."""

    #: Jobs that wait before more are refused, of all owners and of one.
    max_queued: int = Field(1000, ge=1)
    max_queued_per_owner: int = Field(500, ge=1)
    #: How long an ended job and its pictures are kept.
    keep_s: float = Field(86_400, gt=0)
    #: Replicas that take jobs, and how many each works on at a time.
    workers: int = Field(1, ge=1)
    concurrency: int = Field(4, ge=1)
    #: Attempts before a job is given up, and seconds that one may take.
    max_attempts: int = Field(3, ge=1)
    timeout_s: float = Field(3600, gt=0)
    #: Another worker takes a job over that its worker has not been heard of for so long.
    lease_s: float = Field(30, gt=0)
    #: How often workers write progress down, and look for jobs and cancellations.
    tick_s: float = Field(0.5, gt=0)
    #: Where webhooks may go: ``https://host`` or ``https://host:port``, each exactly; none allows no webhooks.
    webhook_origins: tuple[Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\[\]:-]+$")], ...] = ()
    #: File with the key that webhooks are signed with: ``whsec_`` and base64.
    webhook_secret: Path | None = None
    #: Attempts at a webhook, and seconds before the second; each further wait is twice as long.
    webhook_attempts: int = Field(6, ge=1)
    webhook_backoff_s: float = Field(5, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> JobsConfig:
        if self.lease_s < 4 * self.tick_s:
            raise ValueError("lease_s must be at least four times tick_s, or a busy worker loses its jobs")
        if self.webhook_origins and self.webhook_secret is None:
            raise ValueError("webhook_origins needs webhook_secret: webhooks are signed")
        return self


class C2paConfig(Section):
    """With what generated pictures are signed; nothing signs none."""

    #: Files in PEM: the signer's certificate with those above it, and its private key.
    certificates: Path | None = None
    key: Path | None = None
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    #: A time-stamp authority (RFC 3161), asked for every picture.
    timestamp_url: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> C2paConfig:
        if (self.certificates is None) != (self.key is None):
            raise ValueError("certificates and key belong together: give both, or neither")
        return self


class RolloutConfig(Section):
    """How the service follows the registry's aliases."""

    #: Seconds between two looks; 0 keeps the version that was found when the application was deployed.
    poll_s: float = Field(15, ge=0)
    #: Load a new version beside the old one, in the same process; otherwise replicas are replaced.
    beside: bool = True
    #: Versions that stay loaded after others have taken their place, so that there is a quick way back.
    keep: int = Field(1, ge=0)
    #: Share of owners (without keys: of requests) that the alias ``challenger`` serves.
    canary: float = Field(0, ge=0, le=1)

    @model_validator(mode="after")
    def _fits_together(self) -> RolloutConfig:
        if self.canary and not (self.beside and self.poll_s):
            raise ValueError("canary needs beside=true, and poll_s above 0")
        return self


class StoriesConfig(Section):
    """Stories and the pictures that are kept for their owners."""

    #: Stories of one owner, and panels of one story.
    max_stories: int = Field(1000, ge=1)
    max_panels: int = Field(500, ge=1)
    #: Bytes of pictures of one owner, in stories and in the history, before nothing more is drawn for them.
    max_takes_bytes: int = Field(5_000_000_000, ge=1)
    #: How long a generation that is not a story's stays in the history.
    history_keep_s: float = Field(30 * 86_400, gt=0)
    #: Largest file that is imported, and most bytes that it may unpack to.
    max_import_bytes: int = Field(200_000_000, ge=1)
    max_unpacked_bytes: int = Field(500_000_000, ge=1)


class ServingConfig(Section):
    host: str = "127.0.0.1"
    #: 0 takes a free port.
    port: int = Field(8000, ge=0, lt=65536)
    #: Directory, or URL of an object store, of the characters' pictures and tokens and the jobs' results.
    store: Place = Path("runs/characters")
    #: SQLAlchemy URL of the rows of characters, jobs and keys; by default SQLite in `store`, if that is a directory.
    database: str | None = None
    #: Find faces on uploaded pictures that come without a face box (needs the extra ``faces``).
    find_faces: bool = False
    #: Find the word for characters that come with neither word nor description (loads SigLIP beside them).
    find_words: bool = False
    #: Largest request body.
    max_upload_bytes: int = Field(10_000_000, ge=1)
    #: Most pixels of an uploaded picture, by its header.
    max_upload_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    #: Longest side of a generated picture in pixels.
    max_side: int = Field(2048, ge=8)
    max_steps: int = Field(100, ge=1)
    #: Least replicas of the generator; with 0 the last one leaves when it is not needed, and the next request waits for
    #: another.
    min_replicas: int = Field(1, ge=0)
    #: Most replicas of the generator, and of the characters.
    max_replicas: int = Field(2, ge=1)
    #: Seconds that a replica is not needed before it leaves.
    scale_down_s: float = Field(600, ge=0)
    #: Requests a generator works on at a time, and requests that wait before more are refused.
    max_ongoing_requests: int = Field(8, ge=1)
    max_queued_requests: int = Field(32, ge=1)
    #: Pictures that wait inside a generator, of all requests and of one owner, before more are refused.
    max_queued_pictures: int = Field(64, ge=1)
    max_queued_per_owner: int = Field(32, ge=1)
    #: Most pixels a generator draws at the same time; by default it measures at its start how many pay.
    pixel_budget: int | None = Field(None, ge=1)
    #: What one generator reserves.
    generator_gpus: float = Field(0, ge=0)
    generator_threads: int = Field(1, ge=1)
    request_timeout_s: float = Field(300, gt=0)
    #: Seconds for which a generator has the vision tokens of a character that it has drawn in memory; 0 keeps none.
    token_cache_s: float = Field(60, ge=0)
    #: Sizes that are drawn once before a generator takes requests, ``<width>x<height>``; by default that of `sampling`.
    warm_sizes: tuple[Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")], ...] = ()
    #: Compile the U-Net: slow to warm up, quicker afterwards, on GPUs.
    compile: bool = False
    #: Seconds between two health checks of a replica, three of which have to fail.
    health_check_s: float = Field(10, gt=0)
    #: A generator that has work, and in which nothing has moved for so many seconds, is replaced.
    stuck_s: float = Field(120, gt=0)
    #: Seconds that a replica gets to finish what it has begun before it is stopped.
    drain_s: float = Field(60, ge=0)
    #: Generated pictures carry their prompt, beside what else they say of how they were made.
    prompt_in_pictures: bool = False
    c2pa: C2paConfig = C2paConfig()
    jobs: JobsConfig = JobsConfig()
    stories: StoriesConfig = StoriesConfig()
    rollout: RolloutConfig = RolloutConfig()
    access: AccessConfig = AccessConfig()
    content: ContentConfig = ContentConfig()

    @model_validator(mode="after")
    def _rows_have_a_place(self) -> ServingConfig:
        if isinstance(self.store, str) and self.database is None:
            raise ValueError("store is a URL: give database, since rows cannot lie there")
        return self

    @property
    def proxy_timeout_s(self) -> float:
        """How long Serve's proxy waits for the gateway, which refuses late requests in JSON before that."""
        return self.request_timeout_s + 10

    @model_validator(mode="after")
    def _replicas_fit(self) -> ServingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        return self
