"""The service and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.config.access import AccessConfig, ContentConfig
from components.config.section import Section


class JobsConfig(Section):
    """Pictures that are drawn while nobody waits on the line."""

    #: Jobs that wait before more are refused.
    max_queued: int = Field(1000, ge=1)
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


class ServingConfig(Section):
    host: str = "127.0.0.1"
    #: 0 takes a free port.
    port: int = Field(8000, ge=0, lt=65536)
    #: Directory of the characters' pictures and tokens.
    store: Path = Path("runs/characters")
    #: SQLAlchemy URL of the characters' rows; by default SQLite in `store`.
    database: str | None = None
    #: Find faces on uploaded pictures that come without a face box (needs the extra ``faces``).
    find_faces: bool = False
    #: Largest request body.
    max_upload_bytes: int = Field(10_000_000, ge=1)
    #: Most pixels of an uploaded picture, by its header.
    max_upload_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    #: Longest side of a generated picture in pixels.
    max_side: int = Field(2048, ge=8)
    max_steps: int = Field(100, ge=1)
    #: Most replicas of the generator, and of the characters.
    max_replicas: int = Field(2, ge=1)
    #: Requests a generator works on at a time, and requests that wait before more are refused.
    max_ongoing_requests: int = Field(8, ge=1)
    max_queued_requests: int = Field(32, ge=1)
    #: Most pixels a generator draws at the same time; by default it measures at its start how many pay.
    pixel_budget: int | None = Field(None, ge=1)
    #: What one generator reserves.
    generator_gpus: float = Field(0, ge=0)
    generator_threads: int = Field(1, ge=1)
    request_timeout_s: float = Field(300, gt=0)
    #: Generated pictures carry their prompt, beside what else they say of how they were made.
    prompt_in_pictures: bool = False
    c2pa: C2paConfig = C2paConfig()
    jobs: JobsConfig = JobsConfig()
    access: AccessConfig = AccessConfig()
    content: ContentConfig = ContentConfig()
