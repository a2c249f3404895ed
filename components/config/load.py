"""Reads a preset, and what ``--set`` says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from components.config.section import PACKAGE_ROOT, PRESETS
from components.config.tree import Config
from components.errors import ConfigError


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
