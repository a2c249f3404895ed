"""Which models and which code make a dataset: what other ones made must not be mixed with it."""

from __future__ import annotations

from pathlib import Path

from components.config import PACKAGE_ROOT, Config
from components.errors import ArtifactError
from components.fingerprint import digest_files
from components.model.vision import encoder_identity

#: The folders of a base model that preparation depends on.
_PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
#: The modules that decide what a prepared row holds. A change elsewhere makes no finished work useless.
CODE = (
    "components/data/buckets.py",
    "components/data/captions.py",
    "components/data/crop.py",
    "components/data/curate.py",
    "components/data/duplicates.py",
    "components/data/encode.py",
    "components/data/once.py",
    "components/data/picture.py",
    "components/data/pixels.py",
    "components/data/plan.py",
    "components/data/prepared.py",
    "components/data/region.py",
    "components/data/schema.py",
    "components/faces.py",
    "components/model/faces.py",
    "components/model/naming.py",
    "components/model/phrases.py",
    "components/model/text.py",
    "components/model/vision.py",
    "components/model/words.py",
    "components/pictures.py",
)


def encoder_identities(config: Config) -> dict[str, str]:
    """Names of the models that encode.

    Raises:
        ArtifactError: ``model.base`` is a path without a pipeline in it.
    """
    return {
        "base": base_identity(config.model.base),
        "vision": encoder_identity(config.model, config.vision),
    }


def code_identity() -> str:
    """A hash of `CODE`."""
    return digest_files(PACKAGE_ROOT, CODE)


def base_identity(base: str) -> str:
    """Names the autoencoder and text encoders of ``base``: a hash of a directory's files, or the hub name.

    Raises:
        ArtifactError: ``base`` is a path without a pipeline in it.
    """
    root = Path(base)
    if root.is_dir() and (root / "model_index.json").exists():
        files = (file for part in _PARTS for file in (root / part).rglob("*") if file.is_file())
        return digest_files(root, (file.relative_to(root).as_posix() for file in files))
    if root.is_dir() or root.is_absolute():
        raise ArtifactError(f"model.base: {base} holds no model_index.json; give a pipeline's directory or a hub name")
    return base
