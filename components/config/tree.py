"""The whole tree."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from components.config.batch import BatchConfig
from components.config.data import DataConfig, WorldConfig
from components.config.model import AdapterConfig, ModelConfig, NamingConfig, SamplingConfig, VisionConfig
from components.config.registry import EvaluationConfig, RegistryConfig
from components.config.section import Section
from components.config.serving import ServingConfig
from components.config.training import PretrainingConfig, TrainingConfig


class QuickstartConfig(Section):
    output: Path = Path("runs/quickstart")
    #: Identities never seen in training, drawn for the final picture.
    showcase: int = Field(8, ge=1)
    #: Unseen identities scored for the table.
    scored: int = Field(48, ge=2)


class Config(Section):
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
    batch: BatchConfig = BatchConfig()
    quickstart: QuickstartConfig = QuickstartConfig()


def for_workers(config: Config) -> Config:
    """The same configuration with absolute paths: a Ray worker has a working directory of its own."""
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
    model = config.model.model_copy(update=_absolute(config.model, "base", "siglip", "dinov2", "adapter"))
    evaluation = config.evaluation.model_copy(update=_absolute(config.evaluation, "encoders", "dino", "clip"))
    places = {name: getattr(config.training, name).absolute() for name in ("dataset", "output")}
    training = config.training.model_copy(update=places)
    sections = {"registry": registry, "serving": serving, "model": model, "evaluation": evaluation}
    return config.model_copy(update=sections | {"training": training})


def _absolute(section: Section, *names: str) -> dict[str, str]:
    """Those of the fields ``names`` that are directories rather than hub names, with absolute paths."""
    named = section.model_dump(include=set(names))
    return {name: str(Path(part).absolute()) for name, part in named.items() if part and Path(part).is_dir()}
