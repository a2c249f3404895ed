"""Stories on real Ray Serve: whatever is killed while panels are drawn, each becomes a take once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.config import load_config
from deploy import app
from tests.deploy.test_serving_app import FAKES
from tests.deploy.test_serving_jobs_ray import replica
from tests.fixtures.error_envelope import error
from tests.stories.conftest import character, create, draw


@pytest.mark.slow
def test_takes_outlive_the_replicas_that_draw_and_collect_them(tmp_path: Path, ray_cluster: None) -> None:
    overrides = [f"serving.store={tmp_path}/store", "serving.port=0", "serving.max_replicas=1", "sampling.steps=30"]
    config = load_config("tiny", [*overrides, "serving.jobs.tick_s=0.2", "serving.jobs.lease_s=2"])
    try:
        with httpx.Client(base_url=app.start(config, registry=FAKES), timeout=60) as client:
            character(client, "Rob")
            story = create(client, "\n".join(f"@rob on a sluggish day {index}" for index in range(4)))
            check_errors_cross_the_handle(client, story)
            draw(client, story["id"])
            for deployment in ("Stories", "Jobs", "Gateway"):
                os.kill(replica(deployment), signal.SIGKILL)
                time.sleep(2)
            panels = outlast(client, story["id"])
            assert [len(panel["takes"]) for panel in panels] == [1] * 4
            assert all(not panel["dirty"] and panel["error"] is None for panel in panels)
            assert client.get(panels[0]["takes"][0]["thumbnail"]).status_code == 200
            pdf = client.get(f"/v1/stories/{story['id']}/export", params={"format": "pdf"})
            assert pdf.content.startswith(b"%PDF")
            draw(client, story["id"], panels=[panels[0]["id"]])
        app.stop()
        with httpx.Client(base_url=app.start(config, registry=FAKES), timeout=60) as client:
            assert [len(panel["takes"]) for panel in outlast(client, story["id"])] == [2, 1, 1, 1]
    finally:
        app.stop()


def check_errors_cross_the_handle(client: httpx.Client, story: dict[str, Any]) -> None:
    path = f"/v1/stories/{story['id']}"
    late = client.patch(path, json={"title": "Late"}, headers={"If-Match": '"r99"'})
    assert late.status_code == 412 and late.headers["etag"] == story["etag"]
    assert error(client.get(f"{path}/export", params={"format": "pdf"}))["code"] == "nothing_to_export"
    assert error(client.get(path.replace("story-", "story-0")[: len(path)]))["code"] == "story_not_found"


def outlast(client: httpx.Client, story: str) -> list[dict[str, Any]]:
    """The panels once nothing of the story is being drawn, whatever is being restarted meanwhile."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer = client.get(f"/v1/stories/{story}")
        assert answer.status_code in (200, 503) or "error" not in answer.text, answer.text
        if answer.status_code == 200 and all(panel["job"] is None for panel in answer.json()["panels"]):
            return list(answer.json()["panels"])
        time.sleep(0.2)
    raise AssertionError(f"it is still being drawn: {answer.text}")
