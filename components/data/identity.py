"""Which base model encodes: a dataset prepared with one must not be trained with another."""

from __future__ import annotations

from pathlib import Path

from components.errors import ArtifactError
from components.fingerprint import digest_files

#: The folders of a base model that preparation depends on.
_PARTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


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
