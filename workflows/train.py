"""Train the adapter on a prepared dataset, and register the result as a new version."""

from __future__ import annotations

from components.config import Config
from components.registry import versions
from components.registry.tracker import MlflowTracker
from components.training.launch import train


def run(config: Config) -> None:
    """Train and register an adapter, and print its version."""
    tracker = MlflowTracker(config)
    trained = train(config, tracker)
    tags = {"fingerprint": trained.fingerprint}
    version = versions.register(config, trained.adapter, trained.run_id, tags, tracker.store)
    print(f"registered {version.uri} (adapter in {trained.adapter})")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
