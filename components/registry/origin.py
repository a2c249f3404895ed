"""The origin of a version: dataset, base model and code, as tags of the version and of its run."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from components.config import Config
from components.errors import ArtifactError
from components.fingerprint import digest_files
from components.registry import tracking, version_config

#: The fingerprint of the dataset that a version was trained on; and the tags of the base model and of the code.
DATASET, BASE, BASE_IDENTITY, COMMIT = "dataset_fingerprint", "base_model", "base_identity", "git_commit"
_HASHED = "sha256:"


def origin(config: Config, run_id: str, store: MlflowClient) -> dict[str, str]:
    """The origin tags of the run ``run_id``, from the run and the configuration.

    Raises:
        ArtifactError: ``model.base`` is a path without a model.
    """
    run = store.get_run(run_id)
    found = {
        BASE: version_config.outwards(config.model.base),
        BASE_IDENTITY: base_identity(config.model.base),
        COMMIT: run.data.tags.get(COMMIT) or tracking.git_commit(),
    }
    for given in run.inputs.dataset_inputs:
        if any((tag.key, tag.value) == ("mlflow.data.context", "training") for tag in given.tags):
            found[DATASET] = given.dataset.digest
    return found


def tag_run(store: MlflowClient, run_id: str, tags: dict[str, str]) -> None:
    """Set those of ``tags`` that the run does not have."""
    present = store.get_run(run_id).data.tags
    for key, value in tags.items():
        if key not in present:
            store.set_tag(run_id, key, value)


def base_identity(base: str) -> str:
    """The identity of the base model: a hash of all its files, or of its single file, or its hub name.

    Raises:
        ArtifactError: ``base`` is a path without a model.
    """
    root = Path(base)
    if root.is_dir():
        files = (file.relative_to(root) for file in root.rglob("*") if file.is_file())
        parts = (file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts))
        return _HASHED + digest_files(root, parts)
    if root.is_file():
        return _HASHED + digest_files(root.parent, [root.name])
    if root.is_absolute():
        raise ArtifactError(
            f"model.base: {base} does not exist; give a pipeline's directory, a single-file checkpoint or a hub name"
        )
    return base


def check_base(base: str, expected: str) -> None:
    """Check that the base model is the one an adapter was trained for. Hub names are not compared.

    Raises:
        ArtifactError: the files of ``base`` differ.
    """
    found = base_identity(base)
    if found != expected and found.startswith(_HASHED) and expected.startswith(_HASHED):
        raise ArtifactError(
            f"model.base: {base} ({found}) is not the model that the adapter was trained for ({expected})"
        )
