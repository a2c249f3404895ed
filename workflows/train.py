"""Train the adapter on a prepared dataset, and register the result as a new version."""

from __future__ import annotations

from components.config import Config
from components.registry import versions
from components.registry.tracker import MlflowTracker
from components.training.launch import train


def run(config: Config) -> None:
    """Train an adapter, register the best one (without validation rows the last), and print its version."""
    tracker = MlflowTracker(config)
    trained = train(config, tracker)
    tags = {"fingerprint": trained.fingerprint}
    adapter = trained.best or trained.adapter
    version = versions.register(config, adapter, trained.run_id, tags, tracker.store)
    which = "best by validation loss, " if trained.best else ""
    print(f"registered {version.uri} ({which}adapter in {adapter})")


if __name__ == "__main__":
    from workflows.stage import main

    main(run)
