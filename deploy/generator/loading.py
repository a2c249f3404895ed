"""Loads a version from the model registry as a generator that is warmed up."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Protocol

from components.config import Config, SamplingConfig
from components.content import output_check
from components.engine.budget import measure_budget
from components.engine.request import Request, Size
from components.engine.step_times import StepTimes, measure_step_times
from components.engine.warmup import warm_up
from components.model.naming import WordNamer
from components.model.subjects import Subject
from components.provenance.image_files import ModelName
from components.provenance.manifests import picture_writer
from deploy.generator.rollout import VersionAliases
from deploy.generator.service import GenerationService, GeneratorLimits, Pipeline
from deploy.interfaces.generator_speed import GeneratorSpeed
from deploy.interfaces.protocols import SubjectSource
from deploy.status.metrics import GeneratorMetrics

log = logging.getLogger(__name__)
#: The registry's alias of the version that gets a share of the requests.
_CHALLENGER = "challenger"
#: Steps of a warm-up request: the first step and a following one run different code.
_WARM_UP_STEPS = 2
#: A step may always take as many times as long as one of the configured size.
_OWN_SIZE = 4


class Version(Protocol):
    """What `PipelineSource.resolve` returns (see `components.registry.versions.ModelVersion`)."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


class PipelineSource(Protocol):
    """The module that pipelines are loaded from (see `components.registry.versions`)."""

    def resolve(self, config: Config, uri: str) -> Version: ...

    def find_alias(self, config: Config, name: str, alias: str) -> str | None: ...

    def load_pipeline(self, config: Config, uri: str, beside: Any = None) -> Pipeline: ...


class VersionLoader:
    """Loads versions of one model.

    Without a configured pixel budget, that of the first version is measured and used for all; so are the durations of
    steps.
    """

    def __init__(
        self, config: Config, registry: PipelineSource, model: str, characters: SubjectSource, metrics: GeneratorMetrics
    ) -> None:
        self._config, self._registry, self._model = config, registry, model
        self._characters, self._metrics = characters, metrics
        self._namer = cache(partial(WordNamer.from_config, config.model, config.naming))
        self._pixels = config.serving.pixel_budget
        self._times: StepTimes | None = None
        self._content = output_check(config.serving.content)

    def __call__(self, version: str, beside: GenerationService | None = None) -> GenerationService:
        """A warmed-up generator of ``version``; it shares frozen weights with ``beside``.

        Raises:
            RegistryError: the version does not exist.
            ArtifactError: the version does not fit the configuration.
        """
        serving = self._config.serving
        uri = f"models:/{self._model}/{version}"
        began = time.monotonic()
        pipeline = self._registry.load_pipeline(self._config, uri, None if beside is None else beside.pipeline)
        if serving.compile:
            pipeline.compile()
        loaded = time.monotonic()
        deadline = loaded + serving.warm_up_s
        if self._times is None:  # first, as it is needed however long the rest takes
            self._times = measure_times(pipeline, self._config, deadline)
        if not warm_up(pipeline, warm_up_requests(pipeline, self._config), deadline):
            log.warning("the warm-up ended early, after serving.warm_up_s: %g seconds", serving.warm_up_s)
        if self._pixels is None:
            self._pixels = measure_pixel_budget(pipeline, self._config.sampling, deadline)
        speed = generator_speed(self._times, self._config, self._pixels, pipeline.control_shares)
        limits = GeneratorLimits(
            self._pixels,
            serving.max_queued_pictures,
            serving.max_queued_per_owner,
            serving.request_timeout_s,
            serving.token_cache_s,
            serving.jobs.timeout_s,
        )
        service = GenerationService(
            pipeline,
            self._characters,
            limits,
            picture_writer(serving, ModelName(self._model, version)),
            self._namer,
            self._metrics,
            self._content,
            speed,
        )
        self._metrics.observe_start(version, loaded - began, time.monotonic() - loaded)
        return service


def read_aliases(config: Config, registry: PipelineSource, model: str, alias: str) -> VersionAliases | None:
    """The versions that ``alias`` and the challenger's alias name now; None if ``alias`` names none.

    Raises:
        RegistryError: the registry is unavailable.
    """
    champion = registry.find_alias(config, model, alias)
    if champion is None:
        return None
    return VersionAliases(
        champion, registry.find_alias(config, model, _CHALLENGER) if config.serving.rollout.canary else None
    )


def measure_pixel_budget(pipeline: Pipeline, sampling: SamplingConfig, deadline: float | None = None) -> int:
    """The pixel budget of this machine, measured with images of the configured size with one subject.

    One image, if the ``deadline`` of `time.monotonic` leaves no time.
    """
    request = _sample_request(pipeline, sampling, (sampling.width, sampling.height))
    return measure_budget(pipeline, request, deadline=deadline)


def measure_times(pipeline: Pipeline, config: Config, deadline: float | None = None) -> StepTimes:
    """How long steps take on this machine, from the configured size on."""
    sampling = config.sampling
    request = _sample_request(pipeline, sampling, (sampling.width, sampling.height))
    return measure_step_times(pipeline, request, config.serving.max_side, deadline)


def generator_speed(
    times: StepTimes, config: Config, budget: int, controls: Mapping[str, float] = MappingProxyType({})
) -> GeneratorSpeed:
    """The speed of a machine with these ``times``; a step of the configured size is always short enough.

    Args:
        controls: see `GeneratorSpeed`.
    """
    own = _OWN_SIZE * times.seconds(config.sampling.width * config.sampling.height)
    return GeneratorSpeed(times, budget, max(config.serving.max_step_s, own), tuple(controls.items()))


def warm_up_requests(pipeline: Pipeline, config: Config) -> list[Request]:
    """Two short requests for each size of ``serving.warm_sizes``: with and without a subject. They encode no image."""
    sampling = config.sampling
    sizes = [_parse_size(text) for text in config.serving.warm_sizes] or [(sampling.width, sampling.height)]
    requests = [replace(_sample_request(pipeline, sampling, size), steps=_WARM_UP_STEPS) for size in sizes]
    return [each for request in requests for each in (request, replace(request, subjects=()))]


def _sample_request(pipeline: Pipeline, sampling: SamplingConfig, size: Size) -> Request:
    return Request(
        prompt="a thing",
        seed=0,
        width=size[0],
        height=size[1],
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        subjects=(Subject(pipeline.no_subject_tokens(), "thing"),),
    )


def _parse_size(text: str) -> Size:
    width, height = map(int, text.split("x"))
    return width, height
