"""The part of a configuration that a version needs to draw, kept with it so that any machine can read it.

Paths inside the package are written as ``package://…``: elsewhere the package lies in another place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.config import PACKAGE_ROOT, Config, for_workers
from components.errors import RegistryError

_SCHEME = "package://"
#: What drawing depends on. The rest may change from release to release without making a version unreadable.
_SECTIONS: dict[str, Any] = {
    "preset": True,
    "model": {"base", "siglip", "dinov2", "dtype", "device"},
    "vision": True,
    "sampling": True,
    "naming": True,
    "data": {"max_pixels", "region"},
}


def pack(config: Config) -> dict[str, Any]:
    """Those settings of ``config`` that drawing depends on, as JSON takes them."""
    kept: dict[str, Any] = _moved(for_workers(config).model_dump(mode="json", include=_SECTIONS), outwards)
    return kept


def unpack(packed: dict[str, Any], model: dict[str, Any]) -> Config:
    """The configuration of what `pack` made; all else is at its defaults.

    Args:
        model: in place of the settings of the section ``model``.

    Raises:
        RegistryError: this release knows a setting no more, or a value in ``model`` is wrong.
    """
    tree = _moved(packed | {"model": packed["model"] | model}, _inwards)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise RegistryError(f"the version's configuration does not fit this release: {field}: {first['msg']}") from None


def outwards(value: str) -> str:
    """``value``, or as ``package://…`` if it is the path of something inside the package."""
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
