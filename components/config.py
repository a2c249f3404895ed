"""One typed configuration tree for every workflow: a YAML preset, then ``--set key=value`` overrides.

    config = load_config("tiny", ["training.steps=200", "data.source=pictures"])

Unknown keys and wrong values are refused with the name of the field. Relative paths are relative to the working
directory, except the presets' ``package://`` paths, which lie in the checkout (or the installed package's parent).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from components.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
PACKAGE_ROOT = Path(__file__).parent.parent


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _place(value: Path | str) -> Path | str:
    return value if "://" in str(value) else Path(value)


#: A local path, or a URL of any filesystem that fsspec knows, such as ``s3://bucket/folder``.
Place = Annotated[str | Path, AfterValidator(_place)]


class WorldConfig(_Section):
    """The embedded data source: how many identities to draw, and how often each."""

    identities: int = Field(400, ge=2, le=10_000)
    pictures_per_identity: int = Field(4, ge=2)
    picture_size: int = Field(128, ge=64)
    split: Literal["train", "held_out"] = "train"
    output: Path = Path("runs/raw")


class ModelConfig(_Section):
    """The frozen parts, each a hub name or a directory, and the adapter to start from."""

    base: str
    siglip: str
    dinov2: str
    #: Continue from this adapter directory; none starts with an adapter that changes nothing.
    adapter: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class VisionConfig(_Section):
    """How a reference becomes patch features (paper section 3.2; sizes in pixels, blocks count from 0)."""

    view_size: int = Field(384, ge=16)
    siglip_block: int = Field(25, ge=0)
    dinov2_block: int = Field(22, ge=0)
    #: Earlier blocks of the global view, for the shallow projector (the authors': 7, 13, 19 and 4, 10, 16).
    siglip_shallow: tuple[NonNegativeInt, ...] = ()
    dinov2_shallow: tuple[NonNegativeInt, ...] = ()

    @model_validator(mode="after")
    def _shallow_blocks_pair_up(self) -> VisionConfig:
        if len(self.siglip_shallow) != len(self.dinov2_shallow):
            raise ValueError("siglip_shallow and dinov2_shallow must name equally many blocks")
        return self


class AdapterConfig(_Section):
    """The trained part: the projector's sizes (its output is as wide as the U-Net's text context)."""

    head_dim: int = Field(64, ge=8)
    hidden_dim: int = Field(8704, ge=8)
    #: ``shallow`` also reads `vision.siglip_shallow` and `vision.dinov2_shallow`, and yields twice as many tokens.
    projector: Literal["highres", "shallow"] = "highres"
    #: A learned scalar weights what the local views add.
    adaptive_scale: bool = False
    #: Shallow projector: add the local views, as the paper's figure shows it, or drop them, as the released code does.
    shallow_fusion: Literal["figure", "code"] = "figure"


class ConditioningConfig(_Section):
    """What an adapter was trained with besides its own sizes. It travels with the weights: no preset sets it."""

    #: SDXL's pooled text vector, or the second text encoder's pooler output before its projection.
    text_pooling: Literal["projected", "unprojected"] = "projected"
    #: The sampler it was made for; none leaves the base model's own.
    scheduler: Literal["realcustom"] | None = None


class GuidanceConfig(_Section):
    """Adaptive mask guidance (paper section 3.3)."""

    norm: Literal["max_norm", "min_max_norm", "min_max_per_channel"] = "min_max_per_channel"
    #: Share of positions the subject may act on.
    scope: float = Field(0.25, gt=0, le=1)
    #: Multiplies the influence quantity inside the scope (the paper's is 1).
    quantity: float = Field(1.0, gt=0, le=4)
    #: Steps that find a mask; later steps keep the last one.
    steps: int = Field(12, ge=1)
    #: Read only cross-attention layers whose path starts with one of these; none named reads all.
    layers: tuple[str, ...] = ()
    #: Spread the maps along the self-attention of the mask's resolution.
    self_attention: bool = False
    #: Read the maps in a text-only pass of their own, as the paper, or in the guided pass of the step before.
    source: Literal["separate", "conditional"] = "separate"
    #: What unconditional rows attend to: ``all`` tokens of a black picture, as the paper, or their ``mean``.
    absent: Literal["all", "mean"] = "all"


class SamplingConfig(_Section):
    """How pictures are drawn by default."""

    steps: int = Field(25, ge=1)
    guidance_scale: float = Field(3.5, ge=1)
    height: int = Field(1024, multiple_of=8)
    width: int = Field(1024, multiple_of=8)
    guidance: GuidanceConfig = GuidanceConfig()

    @property
    def arguments(self) -> dict[str, Any]:
        """All but the guidance, as a diffusers pipeline takes them."""
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }


class NamingConfig(_Section):
    """One-step mode: how the target word of a prompt is found by its reference."""

    #: Least probability, of 1, at which a phrase of the prompt is taken for the reference's name.
    threshold: float = Field(0.1, ge=0, le=1)
    #: What SigLIP is asked; ``{noun}`` stands for the noun with its article.
    templates: tuple[Annotated[str, Field(pattern=r"\{noun\}")], ...] = Field(("a photo of {noun}",), min_length=1)
    #: Class nouns for prompts that name none: a list, or a text file with one a line.
    nouns: Annotated[tuple[str, ...], Field(min_length=1)] | Path = PRESETS / "nouns.txt"
    #: Tokens that texts are padded to, as in the training of the text tower.
    text_tokens: int = Field(64, ge=4)


class DataConfig(_Section):
    """What `prepare` reads and writes."""

    #: What `source` holds; docs/data.md describes each.
    format: Literal["jsonl", "csv", "folder", "parquet", "webdataset", "dreambench", "datasets", "world"] = "jsonl"
    source: Place = Path("runs/raw")
    #: Names that the source has for the schema's fields, for example ``{caption: text}``; "" leaves a field out.
    columns: dict[str, str] = {}
    output: Path = Path("runs/prepared")
    #: Side of the training pictures in pixels (reference cut-outs are twice `vision.view_size`).
    image_size: int = Field(1024, multiple_of=8)
    #: Training pictures keep shapes up to this aspect ratio, in buckets about as large as the square; 1 leaves squares.
    max_aspect: float = Field(1.0, ge=1, le=8)
    #: Sides of the buckets are multiples of so many pixels.
    bucket_step: int = Field(64, ge=8, multiple_of=8)
    #: What finds a subject that has neither mask nor alpha channel: GrabCut, or rembg's networks (extra ``rembg``).
    region: Literal["grabcut", "rembg"] = "grabcut"
    #: Find faces in pictures that come without a head box (needs the extra ``faces``).
    find_faces: bool = False
    #: What is encoded now: ``all``, or ``text`` alone, and pictures and references in every step of the training.
    encode: Literal["all", "text"] = "all"
    validation_share: float = Field(0.05, ge=0, lt=1)
    rows_per_shard: int = Field(256, ge=1)
    batch_size: int = Field(32, ge=1)
    #: Most processes that encode at the same time, and most that read and cut pictures (none given: all other cores).
    encoders: int = Field(1, ge=1)
    curators: int | None = Field(None, ge=1)
    #: Leave out pictures that nearly equal an earlier one, or keep them.
    duplicates: Literal["reject", "keep"] = "reject"
    #: What to do when `output` holds this source as other encoders encoded it.
    on_encoder_change: Literal["refuse", "reencode"] = "refuse"
    #: Largest picture file in bytes, and largest picture in pixels.
    max_bytes: int = Field(50_000_000, ge=1)
    max_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    #: Size conditioning of a row: its ``original`` size and crop, as SDXL was taught them, or the ``target`` size
    #: without a crop, for a base that was trained on one size only.
    size_conditioning: Literal["original", "target"] = "original"


class PretrainingSteps(_Section):
    """Training steps of each part of the miniature."""

    vae: int = Field(1500, ge=1)
    decoder: int = Field(1300, ge=1)
    siglip: int = Field(900, ge=1)
    dinov2: int = Field(500, ge=1)
    recognizer: int = Field(500, ge=1)
    evaluation_identity: int = Field(700, ge=1)
    base: int = Field(9700, ge=1)


class PretrainingConfig(_Section):
    """How the miniature itself is made (an hour or two on two cores; its result ships with the code)."""

    output: Path = Path("runs/miniature")
    work: Path = Path("runs/pretraining")
    scenes: int = Field(24_000, ge=100)
    identities: int = Field(3_000, ge=100)
    threads: int = Field(2, ge=1)
    quality_prompts: int = Field(500, ge=1)
    steps: PretrainingSteps = PretrainingSteps()


class CurriculumConfig(_Section):
    """From easy to hard: the share of multi-view references goes from ``start`` to ``end`` over ``ramp`` of the run."""

    start: float = Field(0.2, ge=0, le=1)
    end: float = Field(0.9, ge=0, le=1)
    ramp: float = Field(0.5, gt=0, le=1)
    #: How far references are turned (degrees), scaled (factor less 1) and shifted (share of their side) at the end,
    #: from nothing at the start. Only references that are encoded in the step (``data.encode=text``) can be moved.
    rotation: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, le=1)
    shift: float = Field(0.0, ge=0, le=0.5)


class TrainingConfig(_Section):
    dataset: Path = Path("runs/prepared")
    output: Path = Path("runs/training")
    name: str = Field("adapter", pattern=r"^[A-Za-z0-9._-]+$")
    workers: int = Field(1, ge=1)
    #: Go on with so few workers while the others are missing; none given waits for all of them.
    min_workers: int | None = Field(None, ge=1)
    #: Seconds between looks for workers that came back.
    resize_every_s: float = Field(60, ge=0)
    use_gpu: bool = False
    cpus_per_worker: int = Field(1, ge=1)
    steps: int = Field(160_000, ge=1)
    #: Rows of a micro-batch.
    batch_size: int = Field(4, ge=1)
    #: Micro-batches of a worker and step while all workers are there.
    accumulation: int = Field(1, ge=1)
    #: The adapter, its gradients and its optimizer: whole on each worker, or shared out among them.
    sharding: Literal["ddp", "fsdp"] = "ddp"
    #: Compute the U-Net's activations again in the backward pass rather than keep them.
    gradient_checkpointing: bool = False
    learning_rate: float = Field(1e-5, gt=0)
    warmup: int = Field(500, ge=0)
    max_gradient_norm: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    #: Gamma of the min-SNR weighting of timesteps; none weights them alike.
    min_snr: float | None = Field(None, gt=0)
    #: Chance that a row is trained without its reference (Algorithm: image-condition dropout).
    condition_dropout: float = Field(0.1, ge=0, le=1)
    text_dropout: float = Field(0.05, ge=0, le=1)
    #: Chance that a row whose reference has a face box is trained on its face or its body tokens alone, half each.
    group_dropout: float = Field(0.0, ge=0, le=1)
    #: Weight of the error on the subject, relative to 1 elsewhere.
    subject_weight: float = Field(1.0, gt=0)
    #: Mixed precision; `auto` where the hardware computes in bfloat16.
    bf16: bool | Literal["auto"] = "auto"
    seed: int = Field(0, ge=0)
    #: Rows of a lane that are shuffled together: more mix better and need more memory.
    shuffle_rows: int = Field(256, ge=1)
    checkpoint_every: int = Field(1000, ge=1)
    #: Of the newest checkpoints; the best adapter by validation is kept besides.
    checkpoints_kept: int = Field(2, ge=1)
    #: Most rows of the validation split that every checkpoint is judged by; 0 judges none.
    validation_rows: int = Field(64, ge=0)
    sample_every: int = Field(1000, ge=1)
    max_failures: int = Field(2, ge=0)
    curriculum: CurriculumConfig = CurriculumConfig()

    @property
    def lanes(self) -> int:
        """Micro-batches of a step, whatever the number of workers that are there."""
        return self.workers * self.accumulation

    @model_validator(mode="after")
    def _fewer_workers_are_fewer(self) -> TrainingConfig:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers must be at most workers")
        return self


class GateConfig(_Section):
    """What a candidate must show: the interval of its paired difference to the champion lies above ``min_delta``."""

    #: A metric of the benchmark that `evaluation.benchmark` names.
    metric: str
    #: In the metric's own unit; below 0 it is what the candidate may lose.
    min_delta: float = 0.0
    #: Of the bootstrap interval, two-sided.
    confidence: float = Field(0.95, gt=0, lt=1)


class RegistryConfig(_Section):
    """Where runs and versions are kept, and what a version must show to be served."""

    tracking_uri: str = "sqlite:///runs/mlflow.db"
    #: Root of the artifacts, for a tracking store that serves none itself.
    artifacts: Path = Path("runs/artifacts")
    experiment: str = "realcustom"
    model: str = "realcustom"
    alias: str = "champion"
    #: What a candidate is judged by before it gets the alias.
    gates: tuple[GateConfig, ...] = ()
    #: Longest wait for another promotion that is being written down.
    lock_timeout_s: float = Field(120, gt=0)

    @property
    def absolute_uri(self) -> str:
        """The tracking URI with an absolute path, so that it means the same in every process of a machine."""
        uri, sqlite = self.tracking_uri, "sqlite:///"
        return sqlite + str(Path(uri.removeprefix(sqlite)).absolute()) if uri.startswith(sqlite) else uri


class DreamBenchConfig(_Section):
    """The DreamBench protocol; what is not given is as published: 30 subjects, 25 prompts, 4 pictures of each."""

    #: A folder of photographs a subject, with `prompts_and_classes.txt`.
    source: Place = Path("runs/dreambench")
    seeds: int = Field(4, ge=1)
    #: Only the first so many subjects that have a folder, and the first so many prompts of either list.
    subjects: int | None = Field(None, ge=1)
    prompts: int | None = Field(None, ge=1)
    #: Classes whose subjects get the prompts for live subjects.
    live: tuple[str, ...] = ("cat", "dog")
    #: What cuts the subject out of a drawn picture for the masked variant: `data.region`, or its influence mask.
    mask: Literal["region", "influence"] = "region"


class EvaluationConfig(_Section):
    """Benchmarks, and judges that never condition anything."""

    benchmark: Literal["toybench", "dreambench"] = "toybench"
    #: ``models:/name/version`` or an adapter directory; by default what `registry.alias` points at.
    model: str | None = None
    #: A directory of the toy world's judges.
    encoders: str | None = None
    #: DreamBench's encoders, each a hub name or a directory; without them `encoders` stand in.
    dino: str | None = None
    clip: str | None = None
    prompts: int = Field(200, ge=1)
    batch_size: int = Field(25, ge=1)
    #: Most processes that draw or score at the same time.
    workers: int = Field(1, ge=1)
    seed: int = 20_000
    output: Path = Path("runs/evaluation")
    dreambench: DreamBenchConfig = DreamBenchConfig()

    @model_validator(mode="after")
    def _dino_and_clip_go_together(self) -> EvaluationConfig:
        if (self.dino is None) != (self.clip is None):
            raise ValueError("dino and clip go together: name both or neither")
        return self


class JobsConfig(_Section):
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


class ServingConfig(_Section):
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
    jobs: JobsConfig = JobsConfig()


class QuickstartConfig(_Section):
    output: Path = Path("runs/quickstart")
    #: Identities never seen in training, drawn for the final picture.
    showcase: int = Field(8, ge=1)
    #: Unseen identities scored for the table.
    scored: int = Field(48, ge=2)


class Config(_Section):
    """Everything a workflow needs to know."""

    preset: str
    seed: int = 0
    world: WorldConfig = WorldConfig()
    model: ModelConfig
    vision: VisionConfig = VisionConfig()
    adapter: AdapterConfig = AdapterConfig()
    sampling: SamplingConfig = SamplingConfig()
    naming: NamingConfig = NamingConfig()
    data: DataConfig = DataConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    training: TrainingConfig = TrainingConfig()
    registry: RegistryConfig = RegistryConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    quickstart: QuickstartConfig = QuickstartConfig()


def for_workers(config: Config) -> Config:
    """The same configuration with absolute paths: a Ray worker has a working directory of its own."""
    registry = config.registry.model_copy(
        update={"tracking_uri": config.registry.absolute_uri, "artifacts": config.registry.artifacts.absolute()}
    )
    secret = config.serving.jobs.webhook_secret
    jobs = config.serving.jobs.model_copy(update={"webhook_secret": secret and secret.absolute()})
    serving = config.serving.model_copy(update={"store": config.serving.store.absolute(), "jobs": jobs})
    model = config.model.model_copy(update=_absolute(config.model, "base", "siglip", "dinov2", "adapter"))
    evaluation = config.evaluation.model_copy(update=_absolute(config.evaluation, "encoders", "dino", "clip"))
    places = {name: getattr(config.training, name).absolute() for name in ("dataset", "output")}
    training = config.training.model_copy(update=places)
    sections = {"registry": registry, "serving": serving, "model": model, "evaluation": evaluation}
    return config.model_copy(update=sections | {"training": training})


def _absolute(section: _Section, *names: str) -> dict[str, str]:
    """Those of the fields ``names`` that are directories rather than hub names, with absolute paths."""
    named = section.model_dump(include=set(names))
    return {name: str(Path(part).absolute()) for name, part in named.items() if part and Path(part).is_dir()}


def presets() -> list[str]:
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def load_config(preset: str, overrides: Sequence[str] = ()) -> Config:
    """Read a preset and apply ``key.path=value`` overrides (values are YAML scalars or lists).

    Raises:
        ConfigError: an unknown preset or key, or a value of the wrong type or range.
    """
    path = PRESETS / f"{preset}.yaml"
    if preset not in presets():
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(presets())}")
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    for override in overrides:
        _apply(tree, override)
    try:
        return Config(preset=preset, **_resolve(tree))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"unknown configuration key {field!r}: {_siblings(field)}") from None
        raise ConfigError(f"configuration key {field!r}: {first['msg']}") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: write it as key=value, for example training.steps=200")
    node = tree
    *parents, leaf = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a section")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML; quote it") from None


def _resolve(node: Any) -> Any:
    """Turn ``package://x`` into the absolute path of ``x`` in the checkout."""
    if isinstance(node, dict):
        return {key: _resolve(value) for key, value in node.items()}
    if isinstance(node, str) and node.startswith("package://"):
        return str(PACKAGE_ROOT / node.removeprefix("package://"))
    return node


def _siblings(field: str) -> str:
    section: type[BaseModel] = Config
    for part in field.split(".")[:-1]:
        annotation = section.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return f"known here are {', '.join(sorted(section.model_fields))}"
