"""The service with the miniature and the built studio, for browsers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from components.config import Config, load_config
from components.model.naming import WordNamer
from components.model.pipeline import RealCustomPipeline
from components.provenance.image_files import ModelName
from components.provenance.manifests import picture_writer
from deploy.api.studio import DIST
from deploy.characters.service import CharacterService
from deploy.generator.service import GenerationService
from tests.fakes.service_process import QUICK, running

#: Debian's; a browser of Playwright's own would have to be downloaded.
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking"]


def missing() -> str | None:
    """What these tests need and is not here, as a sentence."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install playwright"
    if not CHROMIUM.exists():
        return f"{CHROMIUM} is not installed: apt-get install chromium"
    if not (DIST / "index.html").exists():
        return "the studio is not built: make studio"
    return None


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
