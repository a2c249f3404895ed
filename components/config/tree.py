"""The whole configuration tree."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from components.config.batch import BatchConfig
from components.config.data import DataConfig, WorldConfig
from components.config.distillation import DistillationConfig
from components.config.model import AdapterConfig, ModelConfig, NamingConfig, SamplingConfig, VisionConfig
from components.config.registry import EvaluationConfig, RegistryConfig
from components.config.section import Section
from components.config.serving import ServingConfig
from components.config.training import PretrainingConfig, TrainingConfig


class QuickstartConfig(Section):
    """The demonstration on one machine."""

    output: Path = Path("runs/quickstart")
    """Directory of the quickstart's image, table and log file."""
    showcase: int = Field(8, ge=1)
    """Number of unseen identities in the quickstart's image."""
    scored: int = Field(48, ge=2)
    """Number of unseen identities that are scored."""


class Config(Section):
    """The configuration of every workflow and of the service."""

    preset: str
    """Name of the preset that the configuration started from."""
    seed: int = 0
    """Seed of the toy world and of the quickstart's cases."""
    world: WorldConfig = WorldConfig()
    """The procedural toy world."""
    model: ModelConfig
    """Frozen parts of the model, and the adapter."""
    vision: VisionConfig = VisionConfig()
    """Vision encoders: views and blocks."""
    adapter: AdapterConfig = AdapterConfig()
    """Sizes of the adapter's projector."""
    sampling: SamplingConfig = SamplingConfig()
    """Defaults of image generation."""
    naming: NamingConfig = NamingConfig()
    """One-step mode: detection of the target word."""
    data: DataConfig = DataConfig()
    """Data preparation."""
    pretraining: PretrainingConfig = PretrainingConfig()
    """Training of the miniature."""
    training: TrainingConfig = TrainingConfig()
    """Training of the adapter."""
    distillation: DistillationConfig = DistillationConfig()
    """Distillation of the base model for few steps."""
    registry: RegistryConfig = RegistryConfig()
    """MLflow tracking, the model registry and promotion."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Benchmarks and their judges."""
    serving: ServingConfig = ServingConfig()
    """The service."""
    batch: BatchConfig = BatchConfig()
    """Generation for tables of prompts."""
    quickstart: QuickstartConfig = QuickstartConfig()
    """The demonstration."""


def for_workers(config: Config) -> Config:
    """The same configuration with absolute paths, since a Ray worker has another working directory."""
    registry = config.registry.model_copy(
        update={"tracking_uri": config.registry.absolute_uri, "artifacts": config.registry.artifacts.absolute()}
    )
    secret = config.serving.jobs.webhook_secret
    jobs = config.serving.jobs.model_copy(update={"webhook_secret": secret and secret.absolute()})
    signer = config.serving.c2pa
    signing = {"certificates": signer.certificates and signer.certificates.absolute()}
    signing["key"] = signer.key and signer.key.absolute()
    parts = {"jobs": jobs, "c2pa": signer.model_copy(update=signing)}
    store = config.serving.store
    store = store if isinstance(store, str) else store.absolute()
    serving = config.serving.model_copy(update={"store": store} | parts)
    model = config.model.model_copy(
        update=_absolute(config.model, "base", "base_config", "siglip", "dinov2", "adapter")
    )
    named = {
        field: {name: str(Path(path).absolute()) if Path(path).exists() else path for name, path in paths.items()}
        for field, paths in (("loras", model.loras), ("controls", model.controls))
    }
    model = model.model_copy(update=named)
    evaluation = config.evaluation.model_copy(update=_absolute(config.evaluation, "encoders", "dino", "clip"))
    places = {name: getattr(config.training, name).absolute() for name in ("dataset", "output")}
    if config.training.sample_references is not None:
        places["sample_references"] = config.training.sample_references.absolute()
    training = config.training.model_copy(update=places)
    sections = {"registry": registry, "serving": serving, "model": model, "evaluation": evaluation}
    return config.model_copy(update=sections | {"training": training})


def _absolute(section: Section, *names: str) -> dict[str, str]:
    """Absolute paths of those of the fields ``names`` that are directories or files rather than hub names."""
    named = section.model_dump(include=set(names))
    return {name: str(Path(part).absolute()) for name, part in named.items() if part and Path(part).exists()}
