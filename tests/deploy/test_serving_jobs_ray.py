"""Jobs on real Ray Serve: a replica that processes a job is killed, and the job still ends exactly once."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from components.config import load_config
from deploy import app
from tests.deploy.test_serving_app import FAKES
from tests.deploy.test_serving_jobs import events, results, submit, wait


@pytest.mark.slow
def test_jobs_outlive_the_replicas_that_work_on_them(tmp_path: Path, ray_cluster: None) -> None:
    overrides = [
        "serving.port=0",
        f"serving.store={tmp_path}/store",
        "serving.max_replicas=1",
        "serving.jobs.tick_s=0.2",
        "serving.jobs.lease_s=2",
    ]
    config = load_config("tiny", overrides)
    try:
        with httpx.Client(base_url=app.start(config, registry=FAKES), timeout=60) as client:
            check_kills(client, tmp_path)
            cancelled = begin(client)
            client.delete(f"/v1/jobs/{cancelled}")
            assert wait(client, cancelled)["status"] == "cancelled"
            begun, waiting = begin(client), submit(client)["id"]
        app.stop()
        with httpx.Client(base_url=app.start(config, registry=FAKES), timeout=60) as client:
            ended = [wait(client, job, within_s=60) for job in (begun, waiting)]
            assert [(job["status"], job["attempts"]) for job in ended] == [("done", 1)] * 2, "it was given back"
    finally:
        app.stop()


def check_kills(client: httpx.Client, tmp_path: Path) -> None:
    job = begin(client, seed=9)
    told: list[tuple[str | None, str, Any]] = []
    listener = threading.Thread(target=lambda: told.extend(events(client, job)))
    listener.start()
    os.kill(replica("Jobs"), signal.SIGKILL)
    done = outlast(client, job)
    assert (done["status"], done["attempts"], done["result"]["seed"]) == ("done", 2, 9), done
    listener.join(30)
    assert [kind for _, kind, _ in told if kind not in ("progress", "preview")] == ["done"], "the line was kept"
    assert any(kind == "preview" for _, kind, _ in told)

    job = begin(client)
    os.kill(replica("Generator"), signal.SIGKILL)
    assert outlast(client, job)["attempts"] == 2

    job = begin(client)
    os.kill(replica("Gateway"), signal.SIGKILL)
    assert outlast(client, job)["attempts"] == 1
    assert len(results(tmp_path)) == 3, "one a job"


def begin(client: httpx.Client, **fields: Any) -> str:
    """A job that has made its first steps."""
    job: str = submit(client, prompt="a sluggish robot", steps=60, **fields)["id"]
    deadline = time.monotonic() + 30
    while client.get(f"/v1/jobs/{job}").json()["progress"]["step"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job


def outlast(client: httpx.Client, job: str) -> dict[str, Any]:
    """The job once it is done, whatever is being restarted meanwhile."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        answer = client.get(f"/v1/jobs/{job}")
        assert answer.status_code in (200, 503) or "error" not in answer.text, answer.text
        if answer.status_code == 200 and answer.json()["status"] == "done":
            return dict(answer.json())
        time.sleep(0.2)
    raise AssertionError(f"the job is still not done: {answer.text}")


def replica(deployment: str) -> int:
    """The process of a deployment's only replica, among those that this run has started."""
    ours = psutil.Process().children(recursive=True)
    (found,) = (p.pid for p in ours if " ".join(p.cmdline()).startswith(f"ray::ServeReplica:realcustom:{deployment}"))
    return found
