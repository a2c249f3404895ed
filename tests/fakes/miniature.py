"""A registry with one version: the trained miniature, with an adapter that is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from components.config import Config
from components.model.pipeline import RealCustomPipeline


def resolve(config: Config, uri: str) -> SimpleNamespace:
    return SimpleNamespace(name="realcustom-tiny", version="1")


def find_alias(config: Config, name: str, alias: str) -> str | None:
    return "1" if alias == "champion" else None


def load_pipeline(config: Config, uri: str, beside: Any = None) -> RealCustomPipeline:
    return RealCustomPipeline.from_config(config)
