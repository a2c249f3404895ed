"""The service with the miniature and the built studio, for browsers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from components.config import Config, load_config
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.provenance.image_files import ModelName
from components.provenance.manifests import picture_writer
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from tests.fakes.service_process import QUICK, running


def configured(store: Path, *overrides: str) -> Config:
    return load_config("tiny", [f"serving.store={store}", *QUICK, *overrides])


@cache
def _pipeline() -> RealCustomPipeline:
    return RealCustomPipeline.from_config(load_config("tiny", []))


@contextmanager
def miniature(config: Config) -> Iterator[str]:
    """The service over the miniature, in a thread; the URL that it answers at."""
    namer = cache(partial(WordNamer.from_config, config.model, config.naming))
    write = picture_writer(config.serving, ModelName("realcustom-tiny", "7"))
    generator = GenerationService(_pipeline(), CharacterService(config), write=write, namer=namer)
    with running(config, generator) as url:
        yield url
