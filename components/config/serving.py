"""The service and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from components.config.access import AccessConfig, ContentConfig
from components.config.section import Place, Section

#: An origin of a web page, as browsers send it: in lower case, and without the default port.
_PAGE_ORIGIN = r"^https?://(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9][0-9]{0,4})?$"
_DEFAULT_PORTS = (("https://", ":443"), ("http://", ":80"))
#: An origin of a webhook.
ORIGIN_PATTERN = r"^https?://[A-Za-z0-9.\[\]:-]+$"


def _without_default_port(origin: str) -> str:
    for scheme, port in _DEFAULT_PORTS:
        if origin.startswith(scheme):
            return origin.removesuffix(port)
    return origin


class JobsConfig(Section):
    """Asynchronous image generation: the job queue and its webhooks."""

    max_queued: int = Field(1000, ge=1)
    """Maximum number of queued jobs of all owners; more are refused."""
    max_queued_per_owner: int = Field(500, ge=1)
    """Maximum number of queued jobs of one owner; more are refused."""
    keep_s: float = Field(86_400, gt=0)
    """Seconds for which a finished job and its images are kept."""
    workers: int = Field(1, ge=1)
    """Number of job worker replicas."""
    concurrency: int = Field(4, ge=1)
    """Jobs that a worker replica processes at the same time."""
    max_attempts: int = Field(3, ge=1)
    """Maximum number of attempts at a job before it fails. A failure of the infrastructure is no attempt."""
    give_up_s: float = Field(3600, gt=0)
    """Seconds for which a job outlasts failures of the infrastructure (no generator, database or store) before it
    fails."""
    max_crashes: int = Field(2, ge=1)
    """Number of workers and generators that may die while they process a job; then it fails. After the first it is
    processed alone; with 1 it fails at once if it was alone."""
    timeout_s: float = Field(3600, gt=0)
    """Maximum duration of an attempt in seconds."""
    lease_s: float = Field(30, gt=0)
    """Lease of a job in seconds: without a heartbeat for this long, another worker takes the job over."""
    tick_s: float = Field(0.5, gt=0)
    """Interval in seconds at which workers save progress and look for new jobs and cancellations."""
    webhook_origins: tuple[Annotated[str, Field(pattern=ORIGIN_PATTERN)], ...] = ()
    """Origins to which webhooks of every owner may be sent, each exactly ``https://host`` or ``https://host:port``.
    `realcustom webhook allow` adds origins of one owner."""
    webhook_private_hosts: tuple[str, ...] = ()
    """Host names (or addresses, as in the origin) of webhooks that may have addresses that are not public, such as
    ``127.0.0.1`` or ``hooks.internal``. All others are refused when they are sent."""
    webhook_secret: Path | None = None
    """File with the key that signs webhooks of owners without a secret of their own: ``whsec_`` followed by base64.
    Two lines while a key is replaced."""
    webhook_attempts: int = Field(6, ge=1)
    """Maximum number of attempts at a webhook."""
    webhook_backoff_s: float = Field(5, gt=0)
    """Seconds before the second attempt at a webhook; each further wait is twice as long."""

    @model_validator(mode="after")
    def _fits_together(self) -> JobsConfig:
        if self.lease_s < 4 * self.tick_s:
            raise ValueError("lease_s must be at least four times tick_s, or a busy worker loses its jobs")
        if self.webhook_origins and self.webhook_secret is None:
            raise ValueError("webhook_origins needs webhook_secret: webhooks are signed")
        return self


class DatabaseLimits(Section):
    """Time limits of the database; a request that exceeds them is answered with 503."""

    connect_s: float = Field(5, ge=2)
    """Seconds within which a connection is made, is free, and answers before it is used."""
    statement_s: float = Field(30, gt=0)
    """Seconds that a statement may take, waiting for locks included. Migrations have no limit."""


class LoggingConfig(Section):
    """Log lines of the service."""

    format: Literal["json", "text"] = "json"
    """``json``: lines of JSON with ``time``, ``level``, ``logger``, ``message``, ``request``, ``job``, ``owner`` and
    ``key``; or ``text``."""
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Lines below this level are not written."""


class StorageQuotas(Section):
    """What an owner's characters may take; more is refused with ``storage_quota_exceeded``."""

    max_characters: int = Field(1000, ge=1)
    """Maximum number of characters of an owner."""
    max_pictures: int = Field(4000, ge=1)
    """Maximum number of pictures in all characters of an owner."""
    max_bytes: int = Field(10_000_000_000, ge=1)
    """Maximum number of bytes of an owner's pictures and their masks. Images in stories and in the history have
    `stories.max_takes_bytes`."""


class C2paConfig(Section):
    """Signatures (C2PA) of generated images; without `certificates` and `key` nothing is signed."""

    certificates: Path | None = None
    """PEM file with the signer's certificate chain; ``null`` signs no image."""
    key: Path | None = None
    """PEM file with the signer's private key."""
    algorithm: Literal["es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"] = "es256"
    """Signature algorithm."""
    timestamp_url: str | None = None
    """URL of a time-stamp authority (RFC 3161), called for every image."""

    @model_validator(mode="after")
    def _fits_together(self) -> C2paConfig:
        if (self.certificates is None) != (self.key is None):
            raise ValueError("certificates and key belong together: give both, or neither")
        return self


class RolloutConfig(Section):
    """Rollout of new versions when an alias of the registry moves."""

    poll_s: float = Field(15, ge=0)
    """Seconds between two checks of the registry's aliases; 0 keeps the version found at deployment."""
    beside: bool = True
    """Load a new version in the same process, beside the old one; otherwise replicas are replaced."""
    keep: int = Field(1, ge=0)
    """Number of replaced versions that stay loaded, for a quick rollback."""
    canary: float = Field(0, ge=0, le=1)
    """Share of owners (without API keys: of requests), from 0 to 1, that the alias ``challenger`` serves."""

    @model_validator(mode="after")
    def _fits_together(self) -> RolloutConfig:
        if self.canary and not (self.beside and self.poll_s):
            raise ValueError("canary needs beside=true, and poll_s above 0")
        return self


class StoriesConfig(Section):
    """Limits of stories, and of the images that are stored for their owners."""

    max_stories: int = Field(1000, ge=1)
    """Maximum number of stories of an owner."""
    max_panels: int = Field(500, ge=1)
    """Maximum number of panels of a story."""
    max_takes_bytes: int = Field(5_000_000_000, ge=1)
    """Bytes of stored images of an owner, in stories and in the history, at which further generations are refused."""
    history_keep_s: float = Field(30 * 86_400, gt=0)
    """Seconds for which a generation that belongs to no story stays in the history."""
    max_import_bytes: int = Field(200_000_000, ge=1)
    """Maximum size of an imported story file in bytes."""
    max_unpacked_bytes: int = Field(500_000_000, ge=1)
    """Maximum number of bytes that an imported story file may unpack to."""


class GatewaysConfig(Section):
    """Number of replicas of the HTTP interface. Each takes a quarter of a CPU."""

    min: int = Field(1, ge=1)
    """Minimum number of gateways."""
    max: int = Field(2, ge=1)
    """Maximum number of gateways."""
    target_requests: int = Field(50, ge=1)
    """Open requests of a gateway, event streams among them, above which another one starts."""

    @model_validator(mode="after")
    def _fits_together(self) -> GatewaysConfig:
        if self.min > self.max:
            raise ValueError("min is more than max")
        return self


class ServingConfig(Section):
    """The service: address, limits, replicas and storage."""

    host: str = "127.0.0.1"
    """Address that the service listens on."""
    port: int = Field(8000, ge=0, lt=65536)
    """Port that the service listens on; 0 takes a free port."""
    store: Place = Path("runs/characters")
    """Directory or object store URL for the characters' images and tokens, and the jobs' results."""
    database: str | None = None
    """SQLAlchemy URL of the database of characters, jobs and keys; by default SQLite in `store`, if that is a
    directory."""
    database_limits: DatabaseLimits = DatabaseLimits()
    """Time limits of the database."""
    quotas: StorageQuotas = StorageQuotas()
    """Storage quotas of each owner."""
    orphans_s: float = Field(3600, gt=0)
    """Seconds between two removals of files that no row of the database names, which crashes leave behind. Each lists
    the whole store."""
    find_faces: bool = False
    """Detect faces in uploaded images that come without a face box (needs the extra ``faces``)."""
    find_words: bool = False
    """Detect the target word of characters that have neither word nor description (each replica of the characters
    loads SigLIP)."""
    prompt_scripts: Literal["latin", "any"] = "latin"
    """Scripts of prompts: ``latin`` refuses those that are largely in letters that SDXL's text encoders do not read,
    such as Chinese ones; ``any`` is for base models with other text encoders."""
    max_upload_bytes: int = Field(10_000_000, ge=1)
    """Maximum size of a request body in bytes."""
    max_upload_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    """Maximum number of pixels of an uploaded image, read from its header."""
    max_side: int = Field(2048, ge=8)
    """Maximum side of a generated image in pixels."""
    max_step_s: float = Field(5, gt=0)
    """Maximum duration of a denoising step in seconds, as estimated when a generator starts. A step holds up all other
    requests: larger images are refused."""
    max_steps: int = Field(100, ge=1)
    """Maximum number of denoising steps of a request."""
    min_replicas: int = Field(1, ge=0)
    """Minimum number of generator replicas; with 0 the last one stops when idle, and the next request waits for a
    new one to start."""
    max_replicas: int = Field(2, ge=1)
    """Maximum number of generator replicas, and of replicas of the characters."""
    scale_down_s: float = Field(600, ge=0)
    """Seconds after which an idle replica stops."""
    allowed_origins: tuple[Annotated[str, Field(pattern=_PAGE_ORIGIN), AfterValidator(_without_default_port)], ...] = ()
    """Origins of web pages, each exactly ``https://host`` or ``https://host:port``, whose scripts may use the service
    beside its own (CORS). They send a key as other clients do; cookies are not allowed."""
    gateways: GatewaysConfig = GatewaysConfig()
    """Replicas of the HTTP interface."""
    max_ongoing_requests: int = Field(8, ge=1)
    """Requests that a generator replica processes at the same time; twice as many while owners without a request join
    others with several."""
    max_queued_requests: int = Field(32, ge=1)
    """Maximum number of requests that wait in a gateway for the generators; more are refused."""
    owner_share: float = Field(0.5, gt=0, le=1)
    """Share of `max_queued_requests`, and of the open requests of a gateway, that one owner may take; more are refused
    with 429."""
    max_queued_pictures: int = Field(64, ge=1)
    """Maximum number of images waiting in a generator replica; more are refused."""
    max_queued_per_owner: int = Field(32, ge=1)
    """Maximum number of images of one owner waiting in a generator replica; more are refused."""
    pixel_budget: int | None = Field(None, ge=1)
    """Maximum number of pixels in a batch of a generator; by default measured when it starts."""
    generator_gpus: float = Field(0, ge=0)
    """GPUs that a generator replica reserves (a fraction shares one)."""
    generator_threads: int = Field(1, ge=1)
    """CPUs that a generator replica reserves, and its number of torch threads."""
    request_timeout_s: float = Field(300, gt=0)
    """Maximum duration of a request in seconds."""
    token_cache_s: float = Field(60, ge=0)
    """Seconds for which a generator caches a character's vision tokens; 0 caches none."""
    warm_sizes: tuple[Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")], ...] = ()
    """Sizes, ``<width>x<height>``, generated once before a generator accepts requests; by default that of
    `sampling`."""
    warm_up_s: float = Field(60, gt=0)
    """Seconds after which a warm-up and the measurement of `pixel_budget` end; the next requests do the rest. Raise it
    with `compile`."""
    compile: bool = False
    """Compile the U-Net: slower to start, faster afterwards, on GPUs."""
    health_check_s: float = Field(10, gt=0)
    """Seconds between health checks of a replica; three failures in a row replace it."""
    stuck_s: float = Field(120, gt=0)
    """Seconds without progress after which a generator with work is replaced."""
    drain_s: float | None = Field(None, ge=0)
    """Seconds that a stopping replica gets to finish its requests; by default, and at least, `request_timeout_s`."""
    prompt_in_pictures: bool = False
    """Write the prompt into the metadata of generated images, beside the other provenance."""
    c2pa: C2paConfig = C2paConfig()
    """Signed provenance (C2PA) of generated images; needs the extra ``c2pa``."""
    jobs: JobsConfig = JobsConfig()
    """Job queue and webhooks."""
    stories: StoriesConfig = StoriesConfig()
    """Limits of stories and of the history."""
    rollout: RolloutConfig = RolloutConfig()
    """Rollout of new model versions."""
    access: AccessConfig = AccessConfig()
    """Authentication by API keys."""
    logging: LoggingConfig = LoggingConfig()
    """Log lines."""
    content: ContentConfig = ContentConfig()
    """Content check of uploaded and generated images."""

    @model_validator(mode="after")
    def _rows_have_a_place(self) -> ServingConfig:
        if isinstance(self.store, str) and self.database is None:
            raise ValueError("store is a URL: give database, since an object store holds no database")
        return self

    @property
    def drain_time_s(self) -> float:
        """Seconds that a stopping replica gets: never less than the longest request may take."""
        return max(self.drain_s or 0.0, self.request_timeout_s)

    @property
    def proxy_timeout_s(self) -> float:
        """Timeout of Serve's proxy in seconds: longer than the gateway's own, whose response is JSON."""
        return self.request_timeout_s + 10

    @model_validator(mode="after")
    def _replicas_fit(self) -> ServingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas is more than max_replicas")
        return self
