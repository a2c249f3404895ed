"""The whole way on a cluster that was started from the command line: prepare, train, promote, draw a table, serve."""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.config import PACKAGE_ROOT, load_config
from components.rehearsal.head_node import free_port
from components.world.write import write_world
from tests.fixtures.faults import family, kill_all, wait_for

BIN = Path(sys.executable).parent
#: Small enough for minutes.
SETTINGS = [
    "world.identities=8",
    "world.pictures_per_identity=3",
    "data.validation_share=0.2",
    "data.encoders=1",
    "training.workers=1",
    "training.steps=4",
    "training.batch_size=4",
    "training.checkpoint_every=4",
    "training.sample_every=4",
    "sampling.steps=2",
    "serving.max_replicas=1",
    "serving.access.keys=required",
    "batch.workers=1",
]


class Head:
    """A head node with token authentication and ports of its own, and the command line on it."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.port, self.dashboard_port = folder, free_port(), free_port()
        self.dashboard = f"http://127.0.0.1:{self.dashboard_port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self._environment = inherited | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": self.dashboard,  # for `ray job`
            "RAY_DASHBOARD_ADDRESS": self.dashboard,  # for `serve`
            "RAY_TRAIN_V2_ENABLED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "REALCUSTOM_STORE": str(store),
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        ports = {
            "port": self.port,
            "dashboard-port": self.dashboard_port,
            "ray-client-server-port": free_port(),
            "dashboard-agent-listen-port": free_port(),
            "metrics-export-port": free_port(),
        }
        options = [f"--{name}={value}" for name, value in ports.items()]
        options += ["--dashboard-host=127.0.0.1", f"--temp-dir={self.folder}/ray", "--num-cpus=4", "--block"]
        with (self.folder / "head.log").open("wb") as log:
            head = subprocess.Popen(
                [BIN / "ray", "start", "--head", *options],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(self._answers, 120)
            yield
        finally:
            kill_all(family(head.pid))
            head.wait(30)

    def call(self, *command: str | Path, timeout: float = 400) -> str:
        """Run a program of this environment; returns what it printed."""
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            cwd=PACKAGE_ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def submit(self, stage: str, *arguments: str, there: str = "") -> str:
        """Run a stage as a job on the cluster, from the checkout's own files; returns what it printed.

        Args:
            there: more arguments, as a shell on the cluster reads them.
        """
        began = time.monotonic()
        words = ["python", "-m", stage, *arguments]
        words = ["sh", "-c", f"{shlex.join(words)} {there}"] if there else words
        printed = self.call("ray", "job", "submit", "--working-dir", str(PACKAGE_ROOT), "--", *words)
        assert "succeeded" in printed, printed[-6000:]
        print(f"{stage}: {time.monotonic() - began:.0f} s")
        return printed

    def _answers(self) -> bool:
        try:
            return httpx.get(self.dashboard, timeout=5).status_code < 500
        except httpx.HTTPError:
            return False


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    # A short path: Ray's sockets lie below it, and the kernel allows them 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rc-"))
    head = Head(folder, tmp_path)
    try:
        with head.running():
            yield head
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_from_pictures_to_a_served_character(head: Head, tmp_path: Path) -> None:
    port = free_port()
    places = {
        "world.output": "raw",
        "data.source": "raw",
        "data.output": "prepared",
        "training.dataset": "prepared",
        "training.output": "training",
        "registry.artifacts": "artifacts",
        "serving.store": "store",
    }
    settings = [*SETTINGS, f"registry.tracking_uri=sqlite:///{tmp_path}/mlflow.db", f"serving.port={port}"]
    settings += [f"{key}={tmp_path / name}" for key, name in places.items()]
    sets = [word for setting in settings for word in ("--set", setting)]
    write_world(load_config("tiny", settings).world, seed=3)
    refused = httpx.get(f"{head.dashboard}/api/jobs/")
    assert refused.status_code in (401, 403), "a request without a token runs nothing"

    head.submit("workflows.prepare", *sets, there="--preset tiny --set data.source=$REALCUSTOM_STORE/raw")
    assert "models:/realcustom-tiny/1" in head.submit("workflows.train", *sets)
    head.submit("workflows.promote", *sets)
    draw_table(head, tmp_path, sets)

    config_file = tmp_path / "serve.yaml"
    config_file.write_text(head.call("python", "-m", "tools.serve_config", *sets))
    head.call("serve", "deploy", str(config_file))
    key = head.call("realcustom", "key", "create", "--owner", "tester", "--name", "test", *sets).split()[-1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        wait_for(lambda: is_up(client), 240)
        assert client.get("/v1/characters").status_code == 401
        client.headers["Authorization"] = f"Bearer {key}"
        check_service(client, tmp_path / "raw")
    assert "RUNNING" in head.call("serve", "status")


def draw_table(head: Head, folder: Path, sets: list[str]) -> None:
    rows = [{"prompt": "a robot in the snow", "seed": seed, "reference": reference(folder / "raw")} for seed in (1, 2)]
    rows = [row | {"word": "robot"} for row in rows]
    table = folder / "raw" / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    head.submit("workflows.generate", "--table", str(table), "--output", str(folder / "pictures"), *sets)
    assert pq.read_table(folder / "pictures" / "results.parquet")["status"].to_pylist() == ["done", "done"]


def reference(folder: Path) -> str:
    """The path of a picture below ``folder``."""
    return next(str(file.relative_to(folder)) for file in sorted(folder.rglob("*.png")))


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def check_service(client: httpx.Client, folder: Path) -> None:
    (model,) = client.get("/v1/models").raise_for_status().json()["data"]
    assert model["version"] == "1"
    picture = (folder / reference(folder)).read_bytes()
    form = {"name": "Rob", "target_word": "robot"}
    created = client.post("/v1/characters", data=form, files={"pictures": ("rob.png", picture)})
    assert created.status_code == 201, created.text
    asked = {"prompt": "a robot in the snow", "seed": 4, "size": "64x64", "characters": [{"id": created.json()["id"]}]}
    answer = client.post("/v1/images/generations", json=asked)
    assert answer.status_code == 200, answer.text
    drawn = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert drawn.size == (64, 64) and np.asarray(drawn).std() > 5, "a picture, not a plain area"
    again = client.post("/v1/images/generations", json=asked).json()["data"][0]["b64_json"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(again)))), np.asarray(drawn))
