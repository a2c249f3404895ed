"""Register an adapter directory as a new version: weights that were converted, or trained elsewhere."""

from __future__ import annotations

from pathlib import Path

from mlflow.exceptions import MlflowException

from components.config import Config
from components.registry import promotion, tracking, versions
from components.registry.compatibility import check_adapter

#: Tag of a version that was registered by this command: the directory that it was copied from.
SOURCE = "adapter_directory"


def run(config: Config, adapter: Path, alias: str | None = None) -> None:
    """Check ``adapter`` against the configured model, register it, and point ``alias`` at the new version.

    The service's own alias (`registry.alias`) moves as in a promotion: recorded, and with a way back.

    Raises:
        ArtifactError: the directory holds no sound adapter, or one for another base model or other encoders.
        RegistryError: the registry cannot be used.
    """
    check_adapter(config, adapter)
    try:
        with tracking.run(config, "register", {"adapter": str(adapter.absolute())}) as run_id:
            version = versions.register(config, adapter, run_id, {SOURCE: str(adapter.absolute())})
        if alias == config.registry.alias:
            promotion.appoint(config, version, "registered from an adapter directory, without a comparison")
        elif alias is not None:
            versions.set_alias(config, version, alias)
    except MlflowException as error:
        raise tracking.refusal(config.registry, error) from None
    print(f"registered {version.uri}" + (f" as @{alias}" if alias else ""))


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
