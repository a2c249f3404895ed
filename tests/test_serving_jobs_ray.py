"""Jobs on real Ray Serve: the replica that works on one is killed in the middle, and the job ends once all the same."""

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
from tests.test_serving_app import FAKES
from tests.test_serving_jobs import events, results, submit, wait


@pytest.mark.slow
def test_a_killed_replicas_job_ends_once(tmp_path: Path, ray_cluster: None) -> None:
    overrides = [
        "serving.port=0",
        f"serving.store={tmp_path}/store",
        "serving.max_replicas=1",
        "serving.jobs.tick_s=0.2",
        "serving.jobs.lease_s=2",
    ]
    url = app.start(load_config("tiny", overrides), registry=FAKES)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            check_jobs(client, tmp_path)
    finally:
        app.stop()


def check_jobs(client: httpx.Client, tmp_path: Path) -> None:
    whole = submit(client, n=2, seed=3)
    assert wait(client, whole["id"], within_s=60)["status"] == "done"

    job = submit(client, prompt="a sluggish robot", seed=9, steps=60)["id"]
    told: list[tuple[str | None, str, Any]] = []
    listener = threading.Thread(target=lambda: told.extend(events(client, job)))
    listener.start()
    wait(client, job, "running")
    deadline = time.monotonic() + 20
    while client.get(f"/v1/jobs/{job}").json()["progress"]["step"] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(worker_process(), signal.SIGKILL)
    kept_on = time.monotonic()
    while time.monotonic() - kept_on < 60:
        answer = client.get(f"/v1/jobs/{job}")
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 200 and answer.json()["status"] == "done":
            break
        time.sleep(0.2)
    done = answer.json()
    assert (done["status"], done["attempts"], done["result"]["seed"]) == ("done", 2, 9), done
    assert len(results(tmp_path)) == 2, "one a job"
    listener.join(30)
    assert [kind for _, kind, _ in told if kind not in ("progress", "preview")] == ["done"], "the line was kept"
    assert any(kind == "preview" for _, kind, _ in told)

    gone = submit(client, prompt="a sluggish robot", steps=60)["id"]
    wait(client, gone, "running")
    client.delete(f"/v1/jobs/{gone}")
    assert wait(client, gone)["status"] == "cancelled"


def worker_process() -> int:
    """The process of the replica that works on jobs, among those that this run has started."""
    ours = psutil.Process().children(recursive=True)
    (found,) = (p.pid for p in ours if " ".join(p.cmdline()).startswith("ray::ServeReplica:realcustom:Jobs"))
    return found
