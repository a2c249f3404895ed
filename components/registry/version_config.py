"""The part of the configuration that a version needs for generation, stored with it in a portable form.

Paths inside the package are stored as ``package://…``, since its location differs between machines.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.config import PACKAGE_ROOT, Config, for_workers
from components.errors import RegistryError

_SCHEME = "package://"
#: Settings that generation depends on. Others may change between releases without making versions unreadable.
_SECTIONS: dict[str, Any] = {
    "preset": True,
    "model": {"base", "base_config", "siglip", "dinov2", "dtype", "device"},
    "vision": True,
    "sampling": True,
    "naming": True,
    "data": {"max_pixels", "region"},
}


def pack(config: Config) -> dict[str, Any]:
    """The settings of ``config`` that generation depends on, as JSON-serialisable values."""
    kept: dict[str, Any] = _moved(for_workers(config).model_dump(mode="json", include=_SECTIONS), outwards)
    return kept


def unpack(packed: dict[str, Any], model: dict[str, Any]) -> Config:
    """The configuration of packed settings, with defaults for all others.

    Args:
        model: overrides of the section ``model``.

    Raises:
        RegistryError: this release does not support a setting, or a value in ``model`` is invalid.
    """
    tree = _moved(packed | {"model": packed["model"] | model}, _inwards)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RegistryError(f"the version's configuration does not fit this release: {field}: {first['msg']}") from None


def outwards(value: str) -> str:
    """``value``, or ``package://…`` if it is a path inside the package."""
    inside = Path(value).is_absolute() and Path(value).is_relative_to(PACKAGE_ROOT)
    return _SCHEME + Path(value).relative_to(PACKAGE_ROOT).as_posix() if inside else value


def _moved(node: Any, move: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {key: _moved(value, move) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_moved(value, move) for value in node]
    return move(node) if isinstance(node, str) else node


def _inwards(value: str) -> str:
    return str(PACKAGE_ROOT / value.removeprefix(_SCHEME)) if value.startswith(_SCHEME) else value
