"""From a version in the registry to a generator that is warm."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any, Protocol

from PIL import Image

from components.config import Config, SamplingConfig
from components.content import output_check
from components.engine.budget import measure_budget
from components.engine.request import Request, Size
from components.engine.warmup import warm_up
from components.model.naming import WordNamer
from components.model.subjects import Subject
from components.provenance.image_files import ModelName
from components.provenance.manifests import picture_writer
from deploy.generator.aliases import VersionAliases
from deploy.generator.service import GenerationService, GeneratorLimits, Pipeline
from deploy.interfaces.protocols import SubjectSource
from deploy.status.metrics import GeneratorMetrics

#: The alias of the version that is on trial.
_CHALLENGER = "challenger"
#: Of a warm-up's pictures: the first step and one that follows it.
_WARM_STEPS = 2


class Version(Protocol):
    """What `PipelineSource.resolve` finds (see `components.registry.versions.ModelVersion`)."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class PipelineSource(Protocol):
    """Where pipelines come from."""

    def resolve(self, config: Config, uri: str) -> Version: ...

    def find_alias(self, config: Config, name: str, alias: str) -> str | None: ...

    def load_pipeline(self, config: Config, uri: str, beside: Any = None) -> Pipeline: ...


class Loader:
    """Loads versions of one model. If nobody says how much of the machine pays, the first measures it for all."""

    def __init__(
        self, config: Config, registry: PipelineSource, model: str, characters: SubjectSource, metrics: GeneratorMetrics
    ) -> None:
        self._config, self._registry, self._model = config, registry, model
        self._characters, self._metrics = characters, metrics
        self._namer = cache(partial(WordNamer.from_config, config.model, config.naming))
        self._pixels = config.serving.pixel_budget
        self._content = output_check(config.serving.content)

    def __call__(self, version: str, beside: GenerationService | None = None) -> GenerationService:
        """A generator for ``version``, warm; it shares the frozen weights of the one ``beside`` it.

        Raises:
            RegistryError: there is no such version.
            ArtifactError: it does not fit what is configured.
        """
        serving = self._config.serving
        uri = f"models:/{self._model}/{version}"
        pipeline = self._registry.load_pipeline(self._config, uri, None if beside is None else beside.pipeline)
        if serving.compile:
            pipeline.compile()
        probes = warm_probes(pipeline, self._config)
        warm_up(pipeline, probes)
        if self._pixels is None:
            self._pixels = measured_budget(pipeline, self._config.sampling)
        limits = GeneratorLimits(
            self._pixels,
            serving.max_queued_pictures,
            serving.max_queued_per_owner,
            serving.request_timeout_s,
            serving.token_cache_s,
        )
        return GenerationService(
            pipeline,
            self._characters,
            limits,
            picture_writer(serving, ModelName(self._model, version)),
            self._namer,
            self._metrics,
            self._content,
        )


def lineup(config: Config, registry: PipelineSource, model: str, alias: str) -> VersionAliases | None:
    """What the registry's aliases say by now; None if ``alias`` points nowhere.

    Raises:
        RegistryError: the registry cannot be asked.
    """
    champion = registry.find_alias(config, model, alias)
    if champion is None:
        return None
    return VersionAliases(
        champion, registry.find_alias(config, model, _CHALLENGER) if config.serving.rollout.canary else None
    )


def measured_budget(pipeline: Pipeline, sampling: SamplingConfig) -> int:
    """The pixel budget that pays on this machine, for pictures of the configured size with one subject."""
    return measure_budget(pipeline, _probe(pipeline, sampling, (sampling.width, sampling.height)))


def warm_probes(pipeline: Pipeline, config: Config) -> list[Request]:
    """A short request of each size that is to be warm, with a subject and without."""
    sampling = config.sampling
    sizes = [_size(text) for text in config.serving.warm_sizes] or [(sampling.width, sampling.height)]
    probes = [replace(_probe(pipeline, sampling, size), steps=_WARM_STEPS) for size in sizes]
    return [each for probe in probes for each in (replace(probe, subjects=()), probe)]


def _probe(pipeline: Pipeline, sampling: SamplingConfig, size: Size) -> Request:
    side = pipeline.reference_size
    tokens = pipeline.encode_subject([Image.new("RGB", (side, side), "gray")])
    return Request(
        prompt="a thing",
        seed=0,
        width=size[0],
        height=size[1],
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        subjects=(Subject(tokens, "thing"),),
    )


def _size(text: str) -> Size:
    width, height = map(int, text.split("x"))
    return width, height
