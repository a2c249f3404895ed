"""Loads a configuration: a preset, then a YAML file (``--config``), then single values (``--set``)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from components.config.section import PACKAGE_ROOT, PRESETS
from components.config.tree import Config
from components.errors import ConfigError

#: The preset where neither the command line nor the file names one.
DEFAULT_PRESET = "tiny"
#: Path of a key: ``("training", "steps")``.
_Key = tuple[str, ...]


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def load_config(preset: str | None = None, overrides: Sequence[str] = (), file: str | Path | None = None) -> Config:
    """Load a preset, merge the YAML ``file`` into it, and apply ``key.path=value`` overrides (values are YAML).

    The file may name its preset under the key ``preset``; without ``preset`` here, that one is taken.

    Raises:
        ConfigError: the preset or a key is unknown, a value has the wrong type or range, or the file cannot be read.
            The message names the key, and the file if the value comes from it.
    """
    layer = {} if file is None else _read(Path(file))
    chosen = _choose_preset(preset, layer.pop("preset", None), file)
    tree: dict[str, Any] = yaml.safe_load((PRESETS / f"{chosen}.yaml").read_text())
    from_file: set[_Key] = set()
    _merge(tree, layer, from_file)
    for override in overrides:
        from_file -= _beyond(_apply(tree, override), from_file)
    try:
        return Config(preset=chosen, **_resolve(tree))
    except ValidationError as error:
        first = error.errors()[0]
        source = f"{file}: " if _related(tuple(map(str, first["loc"])), from_file) else ""
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}unknown configuration key {field!r}: {_siblings(first['loc'])}") from None
        raise ConfigError(f"{source}configuration key {field!r}: {first['msg']}") from None


def named_preset(preset: str | None, file: str | Path | None) -> str | None:
    """The preset that the caller or the ``file`` names; None where `load_config` takes the default.

    Raises:
        ConfigError: the file cannot be read, or names another preset than the caller.
    """
    inside = None if file is None else _read(Path(file)).get("preset")
    return _choose_preset(preset, inside, file) if (preset, inside) != (None, None) else None


def _choose_preset(preset: str | None, inside: Any, file: str | Path | None) -> str:
    if preset is not None and inside is not None and preset != inside:
        raise ConfigError(f"{file}: preset {inside!r} is not the requested {preset!r}: remove one of the two")
    source = "" if preset is not None or inside is None else f"{file}: "
    chosen = preset if preset is not None else inside if inside is not None else DEFAULT_PRESET
    if chosen not in presets():
        raise ConfigError(f"{source}unknown preset {chosen!r}: choose one of {', '.join(presets())}")
    return str(chosen)


class _UniqueKeys(yaml.SafeLoader):
    """YAML without duplicate keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} occurs twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(f"{file}: there is no such file; --config takes the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: must hold sections with keys, for example `training: {{steps: 200}}`")
    return {str(key): value for key, value in tree.items()}


def _merge(tree: dict[str, Any], layer: dict[str, Any], changed: set[_Key], path: _Key = ()) -> None:
    """Merge ``layer`` into ``tree`` key by key, and note the path of every value that it sets."""
    for key, value in layer.items():
        here = (*path, str(key))
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
                changed.add(here)
            _merge(tree[key], value, changed, here)
        else:
            tree[key] = value
            changed.add(here)


def _apply(tree: dict[str, Any], override: str) -> _Key:
    """Apply one override, and return its path."""
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
    return (*parents, leaf)


def _beyond(path: _Key, paths: set[_Key]) -> set[_Key]:
    """Those of ``paths`` that setting ``path`` has replaced."""
    return {each for each in paths if each[: len(path)] == path}


def _related(location: _Key, paths: set[_Key]) -> bool:
    """Whether an error at ``location`` is one of a value at, above or below it that ``paths`` names."""
    return any(each[: len(location)] == location or location[: len(each)] == each for each in paths)


def _resolve(node: Any) -> Any:
    """Replace ``package://x`` by the absolute path of ``x`` beside the installed packages."""
    if isinstance(node, dict):
        return {key: _resolve(value) for key, value in node.items()}
    if isinstance(node, str) and node.startswith("package://"):
        return str(PACKAGE_ROOT / node.removeprefix("package://"))
    return node


def _siblings(location: Sequence[int | str]) -> str:
    """The known keys beside ``location``, whose last part is unknown."""
    section: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, str) and part in section.model_fields:
            annotation = section.model_fields[part].annotation
            for each in (annotation, *get_args(annotation)):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    section = each
    return f"known here are {', '.join(sorted(section.model_fields))}"
