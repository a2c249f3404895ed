"""The registry on PostgreSQL: as a store of its own, and behind an MLflow server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import mlflow
import pytest
import sqlalchemy as sa

from components.config import PACKAGE_ROOT, Config, RegistryConfig
from components.errors import ConfigError, RegistryError
from components.model.pipeline import RealCustomPipeline
from components.registry import checksums, dataset_runs, model_signature, tracking, versions
from components.registry.promotion_lock import promotion_lock
from components.registry.system_metrics import system_metrics
from components.registry.versions import ModelVersion
from components.rehearsal.head_node import free_port
from tests.fixtures.postgres import fresh_database
from tests.fixtures.prepared_dataset import write_prepared
from tests.fixtures.promotion_race import race

#: Longest wait for a server to start, in seconds: it makes its tables first.
_START = 240


def registry_at(uri: str, config: Config, **changes: object) -> RegistryConfig:
    return config.registry.model_copy(update={"tracking_uri": uri, **changes})


# --- the lock


def test_one_promotion_at_a_time_holds_the_lock(postgres_url: str, config: Config) -> None:
    registry = registry_at(postgres_url, config)
    impatient = registry_at(postgres_url, config, lock_timeout_s=0.2)
    late = pytest.raises(RegistryError, match="lock_timeout_s")
    with promotion_lock(registry) as check, late, promotion_lock(impatient):
        check()
    other = registry_at(postgres_url, config, lock_timeout_s=0.2, model="another-model")
    with promotion_lock(registry), promotion_lock(other):
        pass
    with promotion_lock(impatient) as check:
        check()


HOLDER = """
import sys, time
from components.config import RegistryConfig
from components.registry.promotion_lock import promotion_lock
with promotion_lock(RegistryConfig.model_validate_json(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(postgres_url: str, config: Config) -> None:
    registry = registry_at(postgres_url, config)
    command = [sys.executable, "-c", HOLDER, registry.model_dump_json()]
    with subprocess.Popen(command, cwd=PACKAGE_ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "held\n"
            with pytest.raises(RegistryError), promotion_lock(registry_at(postgres_url, config, lock_timeout_s=0.2)):
                pass
        finally:
            holder.kill()
    with promotion_lock(registry_at(postgres_url, config, lock_timeout_s=10)):
        pass


def test_a_holder_whose_connection_is_gone_is_told_before_it_writes(postgres_url: str, config: Config) -> None:
    with promotion_lock(registry_at(postgres_url, config)) as check:
        check()
        engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        with pytest.raises(RegistryError, match="promote again"):
            check()


def test_a_missing_driver_is_named(config: Config) -> None:
    with pytest.raises(ConfigError, match="extra 'postgres'"):
        tracking.client(registry_at("postgresql+pg8000://localhost/mlflow", config))


# --- a store of its own


@pytest.mark.slow
def test_two_promotions_at_once_do_not_race_in_postgresql(postgres_url: str, config: Config, tmp_path: Path) -> None:
    config = config.model_copy(update={"registry": registry_at(postgres_url, config)})
    first, *_ = (placeholder(config, tmp_path) for _ in range(3))
    race(config, first, tmp_path)


def placeholder(config: Config, folder: Path) -> ModelVersion:
    """A version whose adapter is never looked into."""
    (folder / "adapter").mkdir(exist_ok=True)
    (folder / "adapter" / "weights.txt").write_text("nothing")
    with tracking.run(config, "train", {}) as run_id:
        return versions.register(config, folder / "adapter", run_id, {})


# --- behind a server


@dataclass(frozen=True)
class Server:
    """An MLflow server over PostgreSQL: where it answers, and where it keeps artefacts."""

    url: str
    artifacts: Path


@pytest.fixture(scope="module")
def server(postgres_server: sa.URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with fresh_database(postgres_server) as database, (folder / "log").open("w") as log:
        environment = os.environ | {
            "MLFLOW_BACKEND_STORE_URI": database,
            "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield Server(f"http://127.0.0.1:{port}", folder / "artifacts")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"the MLflow server does not answer: {log.read_text()[-2000:]}")


@pytest.fixture
def served(server: Server, config: Config, request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    registry = registry_at(server.url, config, model=f"model-{request.node.name[:20]}")
    sampling = config.sampling.model_copy(update={"steps": 2})
    return config.model_copy(update={"registry": registry, "sampling": sampling})


@pytest.mark.slow
def test_a_version_goes_to_the_server_and_comes_back_checked(served: Config, server: Server, tmp_path: Path) -> None:
    RealCustomPipeline.from_config(served).adapter.save_pretrained(tmp_path / "adapter")
    manifest = write_prepared(tmp_path / "dataset", {("train", "64x64"): 3})
    store = tracking.client(served.registry)
    with tracking.run(served, "train", {"steps": 1}) as run_id:
        dataset_runs.log_dataset(store, run_id, tmp_path / "dataset", manifest, "training")
        with system_metrics(served.registry, run_id, every_s=0.1):
            time.sleep(2)
    registered = versions.register(served, tmp_path / "adapter", run_id, {"fingerprint": "aa"})
    versions.set_alias(served, registered)
    assert "system/cpu_utilization_percentage" in store.get_run(run_id).data.metrics

    uri = f"models:/{served.registry.model}@champion"
    found = versions.resolve(served, uri)
    assert found.tags["dataset_fingerprint"] == manifest.fingerprint
    assert found.path.is_relative_to(served.registry.artifacts / "downloads")
    written = found.path.stat().st_mtime_ns
    assert versions.resolve(served, uri).path.stat().st_mtime_ns == written, "nothing is downloaded twice"
    assert versions.load_pipeline(served, uri).adapter.digest
    drawn = mlflow.pyfunc.load_model(uri).predict(model_signature.example())
    assert drawn["picture"][0].startswith(b"\x89PNG")

    (found.path / "config.json").write_text("{}")
    assert (versions.resolve(served, uri).path / "config.json").read_text() != "{}", "a spoilt download is replaced"
    (weights,) = server.artifacts.rglob("adapter.safetensors")
    weights.write_bytes(b"something else")
    shutil.rmtree(served.registry.artifacts / "downloads")
    with pytest.raises(RegistryError, match=r"adapter\.safetensors does not match its sha256"):
        versions.resolve(served, uri)
    next(server.artifacts.rglob(checksums.NAME)).unlink()
    with pytest.raises(RegistryError, match=rf"{checksums.NAME} is missing"):
        versions.resolve(served, uri)
    assert not list((served.registry.artifacts / "downloads").iterdir())


@pytest.mark.slow
def test_two_promotions_at_once_do_not_race_behind_a_server(served: Config, tmp_path: Path) -> None:
    first, *_ = (placeholder(served, tmp_path) for _ in range(3))
    race(served, first, tmp_path)
