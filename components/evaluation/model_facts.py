"""Identity of a model and its sampling settings, for which scores may be reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.config import Config
from components.fingerprint import digest_files
from components.model.vision import encoder_identity


def model_facts(config: Config, adapter: Path) -> dict[str, Any]:
    """Base, encoders and ``adapter``, each by its files or hub name, and the sampling settings."""
    return {
        "adapter": name_of(adapter),
        "base": name_of(config.model.base),
        "vision": encoder_identity(config.model, config.vision),
        "dtype": config.model.dtype,
        "sampling": config.sampling.model_dump(mode="json"),
    }


def name_of(place: str | Path) -> str:
    """A hash of the files of the directory ``place``; for a hub name, the name."""
    root = Path(place)
    if not root.is_dir():
        return str(place)
    return digest_files(root, (file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()))
