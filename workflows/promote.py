"""Point the registry's alias at a version: the newest one by default."""

from __future__ import annotations

from components.config import Config
from components.registry import versions


def run(config: Config) -> None:
    """Set ``registry.alias`` on the newest version of ``registry.model``."""
    version = versions.newest(config)
    versions.set_alias(config, version)
    print(f"models:/{version.name}@{config.registry.alias} is now version {version.version}")


if __name__ == "__main__":
    from workflows.entry import main

    main(run)
