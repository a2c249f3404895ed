"""Fixtures shared by all tests: an untrained miniature on disk, and one Ray for the whole run."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")

import pytest

from components.config import Config, load_config
from components.model.miniature import MiniatureLayout
from components.pretraining.untrained import save_untrained
from tests.browser.needs import missing
from tests.fixtures.postgres import postgres_server, postgres_url
from tests.fixtures.s3 import s3_bucket, s3_server

__all__ = ["postgres_server", "postgres_url", "s3_bucket", "s3_server"]

#: What a slow test may take: the slowest, the whole way on a real cluster, takes eight minutes alone.
SLOW_TIMEOUT_S = 1800

CAPTIONS = ["a red cat on the left on the beach", "a robot in the snow", "a bird and a car at night"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


def pytest_collection_finish() -> None:
    """The collector passes over what was imported, which is there until the end."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if (why := missing()) is not None:
        terminalreporter.write_line(f"tests/browser is skipped: {why}")


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> MiniatureLayout:
    """An untrained miniature: right shapes and wiring, meaningless pictures."""
    return save_untrained(tmp_path_factory.mktemp("miniature"), CAPTIONS)


@pytest.fixture
def config(miniature: MiniatureLayout, tmp_path: Path) -> Config:
    """The tiny preset over the untrained miniature, writing below the test's own directory."""
    return load_config(
        "tiny",
        [
            f"model.base={miniature.base}",
            f"model.siglip={miniature.siglip}",
            f"model.dinov2={miniature.dinov2}",
            "model.adapter=null",
            f"evaluation.encoders={miniature.evaluation}",
            f"evaluation.output={tmp_path}/evaluation",
            f"world.output={tmp_path}/raw",
            f"data.source={tmp_path}/raw",
            f"data.output={tmp_path}/prepared",
            f"training.dataset={tmp_path}/prepared",
            f"training.output={tmp_path}/training",
            f"registry.tracking_uri=sqlite:///{tmp_path}/mlflow.db",
            f"registry.artifacts={tmp_path}/artifacts",
            f"serving.store={tmp_path}/characters",
        ],
    )


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray, without dashboard, for every test that needs one."""
    import ray

    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()
