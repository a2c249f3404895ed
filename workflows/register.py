"""Register an adapter directory as a new version: weights that were converted, or trained elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.exceptions import MlflowException

from components.config import Config
from components.model.adapter import RealCustomAdapter
from components.model.vision import encoder_identity
from components.registry import promotion, tracking, versions
from components.registry.compatibility import check_adapter
from components.training.unconditional import encode_black

#: Tag of a version that was registered by this command: the directory that it was copied from.
SOURCE = "adapter_directory"


def run(config: Config, adapter: Path, alias: str | None = None) -> None:
    """Check ``adapter`` against the configured model, register it, and point ``alias`` at the new version.

    The service's own alias (`registry.alias`) moves as in a promotion: recorded, and with a way back.

    Raises:
        ArtifactError: the directory holds no sound adapter, or one for another base model or other encoders.
        RegistryError: the registry cannot be used.
    """
    checked = check_adapter(config, adapter)
    try:
        with (
            _completed(config, checked, adapter) as complete,
            tracking.run(config, "register", {"adapter": str(adapter.absolute())}) as run_id,
        ):
            version = versions.register(config, complete, run_id, {SOURCE: str(adapter.absolute())})
        if alias == config.registry.alias:
            promotion.appoint(config, version, "registered from an adapter directory, without a comparison")
        elif alias is not None:
            versions.set_alias(config, version, alias)
    except MlflowException as error:
        raise tracking.refusal(config.registry, error) from None
    print(f"registered {version.uri}" + (f" as @{alias}" if alias else ""))


@contextmanager
def _completed(config: Config, adapter: RealCustomAdapter, directory: Path) -> Iterator[Path]:
    """The adapter's ``directory``, or a copy of it with the tokens of "no subject".

    With them no generator encodes a black reference at its start.
    """
    identity = encoder_identity(config.model, config.vision)
    if adapter.no_subject_tokens(identity) is not None:
        yield directory
        return
    adapter.store_no_subject(encode_black(config), identity)
    with tempfile.TemporaryDirectory() as scratch:
        complete = Path(scratch) / directory.absolute().name
        shutil.copytree(directory, complete)  # MLflow follows no links
        adapter.add_no_subject(complete)
        yield complete


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
