"""Downloading and verifying the files of a version."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_local_uri

from components.config import RegistryConfig
from components.errors import RegistryError
from components.registry.checksums import check_files


def fetch(registry: RegistryConfig, source: str, digest: str | None) -> Path:
    """The local directory of the files at ``source``.

    Local files are used in place. Others are downloaded to ``downloads`` in `registry.artifacts`, once.

    Args:
        digest: sha256 of the version's list of checksums; None for older versions, which are not verified.

    Raises:
        RegistryError: a file is missing or was changed; the message names it.
    """
    if is_local_uri(source) or digest is None:
        root = _download(registry, source, None)
        if digest is not None:
            check_files(root, digest)
        return root
    kept = registry.artifacts / "downloads" / digest
    if kept.exists() and _is_valid(kept, digest):
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".") as scratch:
        root = _download(registry, source, scratch)
        check_files(root, digest)
        try:
            root.rename(kept)
        except OSError:  # another process downloaded the same files
            check_files(kept, digest)
    return kept


def _is_valid(kept: Path, digest: str) -> bool:
    """Verify a download; an invalid one is removed."""
    try:
        check_files(kept, digest)
    except RegistryError:
        shutil.rmtree(kept)
        return False
    return True


def _download(registry: RegistryConfig, source: str, into: str | None) -> Path:
    uri = registry.absolute_uri
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=into, tracking_uri=uri))
    except (MlflowException, OSError) as error:
        raise RegistryError(f"{source} cannot be read: {str(error).splitlines()[0]}") from None
