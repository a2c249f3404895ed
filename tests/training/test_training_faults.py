"""What fails while the adapter is trained costs time, never a step: whatever is killed, the adapter is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from components.config import PACKAGE_ROOT, Config, load_config
from components.data.manifest import shards
from components.data.prepare import prepare
from components.errors import TrainingError
from components.model.miniature import MiniatureLayout
from components.registry import tracking
from components.registry.tracker import MlflowTracker
from components.training.journal import Entry
from components.training.launch import TrainedAdapter, train, training_fingerprint
from components.training.run_directory import RunDirectory
from components.world.write import write_world
from tests.fixtures.faults import QUICK_DETECTION, environment_without_ray, kill_children, once, wait_for

STEPS = 40
SETTINGS = (
    "training.workers=1", f"training.steps={STEPS}", "training.batch_size=4", "training.checkpoint_every=10",
    f"training.sample_every={STEPS}", "training.max_failures=2", "training.learning_rate=1e-3", "sampling.steps=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def overrides(miniature: MiniatureLayout, tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> list[str]:
    """Settings, all but the output, of a training over a prepared world."""
    folder = tmp_path_factory.mktemp("training-faults")
    models = [f"model.{part}={miniature.root / part}" for part in ("base", "siglip", "dinov2")]
    world = ["world.identities=12", "world.pictures_per_identity=4", f"world.output={folder}/raw"]
    data = [f"data.source={folder}/raw", f"data.output={folder}/prepared", f"training.dataset={folder}/prepared"]
    settings = [*models, "model.adapter=null", *world, *data, "data.validation_share=0.3", *SETTINGS]
    config = load_config("tiny", settings)
    write_world(config.world, seed=5)
    prepare(config)
    return settings


def into(overrides: list[str], folder: Path, *more: str) -> Config:
    registry = [f"registry.tracking_uri=sqlite:///{folder}/mlflow.db", f"registry.artifacts={folder}/artifacts"]
    return load_config("tiny", [*overrides, *registry, f"training.output={folder}/training", *more])


def run_directory_of(config: Config) -> RunDirectory:
    return RunDirectory(config.training.output.absolute(), f"{config.training.name}-{training_fingerprint(config)}")


@pytest.fixture(scope="module")
def undisturbed(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a training that nothing disturbed."""
    config = into(overrides, tmp_path_factory.mktemp("undisturbed"))
    return train(config, MlflowTracker(config)).adapter


def weights(adapter: Path) -> dict[str, Tensor]:
    return load_file(adapter / "adapter.safetensors")


def furthest(a: Path, b: Path) -> float:
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def check_run(config: Config, trained: TrainedAdapter) -> None:
    """One MLflow run, in which no step stands twice."""
    store = tracking.client(config.registry)
    runs = store.search_runs([tracking.experiment_id(config.registry)])
    assert [run.info.run_id for run in runs] == [trained.run_id]
    assert runs[0].info.status == "FINISHED"
    steps = [metric.step for metric in store.get_metric_history(trained.run_id, "loss")]
    assert steps == list(range(10, STEPS + 1, 10))


def step_of(run_directory: RunDirectory) -> int:
    return json.loads(run_directory.progress.read_text())["step"] if run_directory.progress.exists() else 0


def kill_train_worker() -> int:
    """Kill the training workers of this Ray; says how many there were."""
    return kill_children(lambda command: "RayTrainWorker" in command)


@pytest.mark.slow
def test_a_killed_worker_costs_no_step(overrides: list[str], undisturbed: Path, tmp_path: Path) -> None:
    config = into(overrides, tmp_path)
    run_directory = run_directory_of(config)
    with once(lambda: step_of(run_directory) >= 23, kill_train_worker) as killed:
        trained = train(config, MlflowTracker(config))
    assert killed == [1]
    assert furthest(trained.adapter, undisturbed) == 0
    check_run(config, trained)
    assert trained.best is not None and weights(trained.best).keys() == weights(undisturbed).keys()


@pytest.mark.slow
def test_half_a_checkpoint_is_none(overrides: list[str], undisturbed: Path, tmp_path: Path) -> None:
    """The worker dies while its second checkpoint is on the way to the storage."""
    config = into(overrides, tmp_path)
    run_directory = run_directory_of(config)
    stored = run_directory.root / run_directory.name
    with once(lambda: len(list(stored.glob("checkpoint_*"))) >= 2, kill_train_worker) as killed:
        trained = train(config, MlflowTracker(config))
    assert killed == [1]
    assert furthest(trained.adapter, undisturbed) == 0
    check_run(config, trained)


@pytest.mark.slow
def test_a_killed_driver_is_followed_by_one_that_goes_on(
    overrides: list[str], undisturbed: Path, tmp_path: Path
) -> None:
    config = into(overrides, tmp_path)
    run_directory = run_directory_of(config)
    with command(config) as process:
        wait_for(lambda: step_of(run_directory) >= 23)
        process.kill()
    time.sleep(3)  # until what it started has ended too
    trained = train(config, MlflowTracker(config))
    assert furthest(trained.adapter, undisturbed) == 0
    check_run(config, trained)


@pytest.mark.slow
def test_sigterm_saves_first(overrides: list[str], undisturbed: Path, tmp_path: Path) -> None:
    """What a scheduler sends before it takes the machine away: the step it came in is the step that is saved."""
    config = into(overrides, tmp_path, "training.checkpoint_every=1000")
    run_directory = run_directory_of(config)
    with command(config) as process:
        wait_for(lambda: step_of(run_directory) >= 13)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "training was stopped after step" in said
    stopped = int(said.split("stopped after step")[1].split()[0].rstrip(","))
    assert 13 <= stopped < STEPS
    first = json.loads(run_directory.journal.read_text().splitlines()[-1])["step"]
    trained = train(config, MlflowTracker(config))
    assert furthest(trained.adapter, undisturbed) == 0
    check_run(config, trained)
    assert first == stopped  # its validation was logged


@pytest.mark.slow
def test_a_store_that_is_down_is_told_later(overrides: list[str], undisturbed: Path, tmp_path: Path) -> None:
    """The tracking server goes away for good in the middle; another one, over the same database, gets everything."""
    folder = tmp_path / "server"
    with mlflow_server(folder) as (url, server):
        config = into(overrides, tmp_path, f"registry.tracking_uri={url}")
        run_directory = run_directory_of(config)
        with (
            once(lambda: step_of(run_directory) >= 13, partial(os.killpg, server.pid, signal.SIGKILL)) as killed,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            trained = train(config, MlflowTracker(config))
    assert killed
    assert furthest(trained.adapter, undisturbed) == 0
    port = int(url.rpartition(":")[2])
    with mlflow_server(folder, port):
        again = train(config, MlflowTracker(config))  # nothing is left to train
        assert again.run_id == trained.run_id
        check_run(config, again)


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_stops_and_names_its_rows(overrides: list[str], tmp_path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    config = into(overrides, tmp_path)
    dataset = tmp_path / "prepared"
    subprocess.run(["cp", "-r", str(config.training.dataset), str(dataset)], check=True)
    (file,) = sorted(shards(dataset, "train").rglob("*.parquet"))[:1]
    table = pq.read_table(file)
    latents = table["latents"].combine_chunks().to_numpy_ndarray().copy()
    latents[3, 0, 0, 0] = np.nan
    poisoned = table["id"][3].as_py()
    index = table.schema.get_field_index("latents")
    pq.write_table(table.set_column(index, "latents", pa.FixedShapeTensorArray.from_numpy_ndarray(latents)), file)
    config = config.model_copy(update={"training": config.training.model_copy(update={"dataset": dataset})})
    with pytest.raises(TrainingError, match="not finite"):
        train(config, MlflowTracker(config))
    (record,) = run_directory_of(config).not_finite.glob("*.json")
    written = json.loads(record.read_text())
    ids = [identifier for lane in written["lanes"] for identifier in lane["ids"]]
    assert poisoned in ids and len(ids) == config.training.batch_size
    assert written["lanes"][0]["loss"] == "nan"


@contextmanager
def command(config: Config) -> Iterator[subprocess.Popen[str]]:
    """The training in a process of its own, with a Ray of its own."""
    with tempfile.TemporaryDirectory(prefix="ray") as apart:
        process = subprocess.Popen(
            [sys.executable, "-c", _TRAIN, config.model_dump_json()],
            cwd=PACKAGE_ROOT, env=environment_without_ray() | {"RAY_TMPDIR": apart}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


_TRAIN = """
import sys
from components.config import Config
from components.errors import TrainingError
from components.registry.tracker import MlflowTracker
from components.training.launch import train

try:
    config = Config.model_validate_json(sys.argv[1])
    train(config, MlflowTracker(config))
except TrainingError as error:
    print(error, file=sys.stderr)
    raise SystemExit(2)
"""


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A tracking server over a database in ``folder``."""
    import httpx

    from components.rehearsal.head_node import free_port

    folder.mkdir(exist_ok=True)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        # Its job runners are many processes, and some of them outlive it.
        env=dict(os.environ) | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, "the server ended"
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers, 180)
        yield url, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# -- machines


_NODES = """
import json, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from components.config import Config
from components.registry.tracker import MlflowTracker
from components.training.launch import train, training_fingerprint
from components.training.run_directory import RunDirectory

steady, config = (Config.model_validate_json(text) for text in sys.argv[1:])
name = f"{config.training.name}-{training_fingerprint(config)}"
run_directory = RunDirectory(config.training.output.absolute(), name)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
train(steady, MlflowTracker(steady))
done = []
thread = threading.Thread(target=lambda: done.append(train(config, MlflowTracker(config))))
thread.start()

def workers():
    if not run_directory.journal.exists():
        return 0, 0
    entries = [json.loads(line) for line in run_directory.journal.read_text().splitlines()]
    counted = [(e["step"], e["metrics"]["workers"]) for e in entries if "workers" in e.get("metrics", {})]
    return counted[-1] if counted else (0, 0)

def wait(count, beyond):
    while thread.is_alive():
        step, found = workers()
        if found == count and step > beyond:
            return step
        time.sleep(0.05)
    raise SystemExit("the training ended too early")

first = wait(2, 0)
cluster.remove_node(nodes[1], allow_graceful=False)
second = wait(1, first)
cluster.add_node(num_cpus=1)
third = wait(2, second)
thread.join()
print("two workers at", first, "one at", second, "two again at", third)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_workers_come_and_go(overrides: list[str], tmp_path: Path) -> None:
    """Two nodes, one of them killed, another one added: the adapter is that of two workers throughout."""
    settings = ["training.workers=2", "training.batch_size=2", "training.steps=300", "training.sample_every=300"]
    steady = into(overrides, tmp_path / "steady", *settings)
    elastic = ("training.min_workers=1", "training.max_failures=5", "training.resize_every_s=5")
    config = into(overrides, tmp_path / "elastic", *settings, *elastic)
    with tempfile.TemporaryDirectory(prefix="ray") as apart:  # or else other tests would join these nodes
        ended = subprocess.run(
            [sys.executable, "-c", _NODES, steady.model_dump_json(), config.model_dump_json()],
            cwd=PACKAGE_ROOT, env=os.environ | QUICK_DETECTION | {"RAY_TMPDIR": apart}, capture_output=True, text=True,
            timeout=1200,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    print(ended.stdout)
    losses, expected = (losses_of(run_directory_of(one)) for one in (config, steady))
    assert list(losses) == list(expected) == list(range(10, 301, 10))
    # A worker with both lanes adds the halves that two workers average: the same numbers, in the same order.
    assert losses == expected
    assert furthest(run_directory_of(config).adapter, run_directory_of(steady).adapter) == 0


_DRAIN = """
import json, subprocess, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from components.config import Config
from components.registry.tracker import MlflowTracker
from components.training.launch import train, training_fingerprint
from components.training.run_directory import RunDirectory
from components.checkpoint import read_progress

config = Config.model_validate_json(sys.argv[1])
name = f"{config.training.name}-{training_fingerprint(config)}"
run_directory = RunDirectory(config.training.output.absolute(), name)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
done = []
thread = threading.Thread(target=lambda: done.append(train(config, MlflowTracker(config))))
thread.start()

def step():
    return json.loads(run_directory.progress.read_text())["step"] if run_directory.progress.exists() else 0

def saved():
    files = (run_directory.root / run_directory.name).glob("checkpoint_*/progress.json")
    return max((json.loads(file.read_text())["step"] for file in files), default=0)

while thread.is_alive() and step() < 20:
    time.sleep(0.05)
subprocess.run(
    [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", cluster.address, "--node-id",
     nodes[1].node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back",
     "--deadline-remaining-seconds", "60"],
    check=True,
)
while thread.is_alive() and not saved():
    time.sleep(0.05)
kept, ends = saved(), thread.is_alive()
cluster.remove_node(nodes[1], allow_graceful=False)
cluster.add_node(num_cpus=1)
thread.join()
print(json.dumps({"saved": kept, "in_the_middle": ends, "ended": len(done)}))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_node_that_is_taken_back_saves_first(overrides: list[str], tmp_path: Path) -> None:
    """Ray is told that a node will be preempted: the step is saved at once, without waiting for a checkpoint's turn."""
    settings = ["training.workers=2", "training.batch_size=2", "training.steps=300", "training.sample_every=300"]
    config = into(overrides, tmp_path, *settings, "training.checkpoint_every=1000")
    with tempfile.TemporaryDirectory(prefix="ray") as apart:
        ended = subprocess.run(
            [sys.executable, "-c", _DRAIN, config.model_dump_json()],
            cwd=PACKAGE_ROOT, env=os.environ | QUICK_DETECTION | {"RAY_TMPDIR": apart}, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    print(ended.stdout)
    told = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith('{"saved"')))
    assert told["in_the_middle"] and told["ended"] == 1, ended.stderr[-3000:]
    assert 20 <= told["saved"] < 300
    assert list(losses_of(run_directory_of(config))) == list(range(10, 301, 10))


def losses_of(run_directory: RunDirectory) -> dict[int, float]:
    """The logged losses by step; one that was logged twice fails."""
    entries = [Entry(**json.loads(line)) for line in run_directory.journal.read_text().splitlines()]
    losses = [(entry.step, entry.metrics["loss"]) for entry in entries if "loss" in entry.metrics]
    assert len(dict(losses)) == len(losses)
    return dict(losses)
