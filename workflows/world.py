"""Draw the toy world as image files and JSON lines, in the format of a user's own data."""

from __future__ import annotations

from components.config import Config
from components.world.write import write_world


def run(config: Config) -> None:
    """Draw ``world.identities`` subjects into ``world.output``."""
    print(f"drawn in {write_world(config.world, config.seed)}")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
